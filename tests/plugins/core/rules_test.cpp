// Shapes, types and layouts that the ops take, without TensorRT.
#include <gtest/gtest.h>

#include "common/check.hpp"
#include "pag_gate/rules.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy {
namespace {

using Conv = PerforatedConvRules;

TensorShape shape(std::initializer_list<std::int64_t> sizes) {
    TensorShape made;
    for (const std::int64_t size : sizes) {
        made.d[made.rank++] = size;
    }
    return made;
}

Conv::Attributes plainConv(int kernel, int pad = 0, int dilation = 1, int stride = 1) {
    Conv::Attributes attributes;
    attributes.kernel_shape = {kernel, kernel};
    attributes.pads = {pad, pad, pad, pad};
    attributes.dilations = {dilation, dilation};
    attributes.strides = {stride, stride};
    return attributes;
}

// A 3x3 over 2x16x9x11 with 24 output channels and padding 1.
struct ConvTensors {
    Tensor tensors[6];

    ConvTensors() {
        const TensorShape shapes[] = {shape({2, 16, 9, 11}), shape({2, 1, 9, 11}),
                                      shape({24, 16, 3, 3}), shape({24}),
                                      shape({2, 24, 9, 11}), shape({2, 24, 9, 11})};
        for (int i = 0; i < 6; ++i) {
            const bool linear = i == Conv::kSelection || i == Conv::kB;
            tensors[i].type = i == Conv::kSelection ? TensorType::kInt32 : TensorType::kFloat16;
            tensors[i].layout = linear ? TensorLayout::kLinear : TensorLayout::kNhwc8;
            tensors[i].shape = shapes[i];
        }
    }

    std::string refusal(const Conv::Attributes& attributes = plainConv(3, 1)) const {
        try {
            Conv::checkTensors(attributes, tensors);
        } catch (const Refusal& refusal) {
            return refusal.what();
        }
        return "accepted";
    }
    TensorShape& of(Conv::Position position) { return tensors[position].shape; }
};

TEST(OutputSize, RoundsTowardsMinusInfinity) {
    EXPECT_EQ(floorDivide(7, 2), 3);
    EXPECT_EQ(floorDivide(-7, 2), -4);
    EXPECT_EQ(floorDivide(-8, 2), -4);
    EXPECT_EQ(floorDivide(0, 3), 0);
}

TEST(ConvShape, EqualsTheFormula) {
    for (int size = 1; size <= 12; ++size) {
        for (int kernel = 1; kernel <= 4; ++kernel) {
            for (int pad = 0; pad <= 3; ++pad) {
                for (int dilation = 1; dilation <= 4; ++dilation) {
                    for (int stride = 1; stride <= 3; ++stride) {
                        ConvTensors conv;
                        conv.of(Conv::kX) = shape({2, 16, size, 5});
                        const int reach = dilation * (kernel - 1) + 1;
                        if (size + 2 * pad < reach) {
                            continue;
                        }
                        const auto rule = Conv::outputShape(
                            plainConv(kernel, pad, dilation, stride), conv.tensors);
                        EXPECT_EQ(evaluate(rule, conv.tensors).d[2],
                                  (size + 2 * pad - reach) / stride + 1);
                    }
                }
            }
        }
    }
}

TEST(ConvShape, CountsEveryPadOnItsSide) {
    ConvTensors conv;
    Conv::Attributes attributes = plainConv(3);
    attributes.pads = {1, 10, 2, 20};  // top, left, bottom, right
    attributes.strides = {1, 2};
    attributes.dilations = {2, 1};
    const auto rule = Conv::outputShape(attributes, conv.tensors);
    EXPECT_EQ(textOf(evaluate(rule, conv.tensors)), "2x24x8x20");
}

TEST(ConvShape, OfUnknownSizesIsUnknown) {
    ConvTensors conv;
    conv.of(Conv::kX) = shape({-1, 16, -1, 11});
    const auto rule = Conv::outputShape(plainConv(3, 1), conv.tensors);
    EXPECT_EQ(textOf(evaluate(rule, conv.tensors)), "?x24x?x11");
}

TEST(ConvShape, RefusesRanks) {
    ConvTensors conv;
    conv.of(Conv::kX) = shape({2, 16, 9});
    EXPECT_EQ(conv.refusal(), "X must be of rank 4, not 3");
    conv = {};
    conv.of(Conv::kB) = shape({24, 1});
    EXPECT_EQ(conv.refusal(), "B must be of rank 1, not 2");
}

TEST(ConvTensors, ThatFitAreAccepted) {
    EXPECT_EQ(ConvTensors().refusal(), "accepted");
    ConvTensors conv;
    conv.of(Conv::kSelection) = shape({2, 1, 1, 1});
    conv.of(Conv::kBase) = shape({1, 1, 1, 1});
    EXPECT_EQ(conv.refusal(), "accepted");
    EXPECT_TRUE(Conv::selectionIsPerImage(conv.tensors));
    EXPECT_TRUE(Conv::baseIsOneValue(conv.tensors));
    for (const auto position : {Conv::kX, Conv::kSelection, Conv::kBase, Conv::kY}) {
        conv = {};
        conv.of(position).d[0] = conv.of(position).d[2] = kUnknownSize;
        EXPECT_EQ(conv.refusal(), "accepted") << position;
    }
}

TEST(ConvTensors, ThatDoNotFitAreRefusedWithBothSizes) {
    ConvTensors conv;
    conv.of(Conv::kSelection) = shape({2, 1, 8, 11});
    EXPECT_EQ(conv.refusal(),
              "the selection is 2x1x8x11 and the output is 2x24x9x11: it must be 2x1x9x11, or "
              "2x1x1x1 for one decision per image");
    conv.of(Conv::kSelection) = shape({-1, 1, 9, 1});
    EXPECT_NE(conv.refusal(), "accepted");
    conv = {};
    conv.of(Conv::kBase) = shape({2, 24, 9, 1});
    EXPECT_EQ(conv.refusal(),
              "the base is 2x24x9x1 and must be 2x24x9x11 like the output, or 1x1x1x1 for one "
              "value");
    conv = {};
    conv.of(Conv::kW) = shape({24, 8, 3, 3});
    EXPECT_EQ(conv.refusal(),
              "X is 2x16x9x11 and the weights are 24x8x3x3: with 1 groups the channels do not "
              "match");
    conv = {};
    EXPECT_EQ(conv.refusal(plainConv(5, 2)),
              "the weights are 24x16x3x3 and kernel_shape is 5, 5");
    conv.of(Conv::kB) = shape({23});
    EXPECT_EQ(conv.refusal(),
              "the bias is 23 and must have one value for each of the 24 output channels");
    conv = {};
    EXPECT_EQ(conv.refusal(plainConv(3, 0, 9)), "the kernel does not fit into X of 2x16x9x11");
    conv.of(Conv::kX) = shape({1 << 16, 16, 1 << 10, 1 << 10});
    conv.of(Conv::kSelection) = conv.of(Conv::kBase) = conv.of(Conv::kY) = shape({-1, -1, -1, -1});
    EXPECT_EQ(conv.refusal(), "X is 65536x16x1024x1024, more than 2^31 - 1 pixels");
}

TEST(ConvTensors, OfGroupsMustDivide) {
    ConvTensors conv;
    Conv::Attributes attributes = plainConv(3, 1);
    attributes.group = 16;
    conv.of(Conv::kW) = shape({24, 1, 3, 3});
    EXPECT_EQ(conv.refusal(attributes), "24 output channels cannot be split into 16 groups");
    attributes.group = 8;
    conv.of(Conv::kW) = shape({24, 2, 3, 3});
    EXPECT_EQ(conv.refusal(attributes), "accepted");
}

// Every combination of types and layouts, position by position, as a builder tries them.
template <typename Rules>
int combinations(Tensor* tensors, int position, std::vector<std::string>* found) {
    if (position == Rules::kInputs + 1) {
        std::string text;
        for (int i = 0; i <= Rules::kInputs; ++i) {
            text += std::to_string(static_cast<int>(tensors[i].type)) +
                    std::to_string(static_cast<int>(tensors[i].layout)) + " ";
        }
        found->push_back(text);
        return 1;
    }
    int count = 0;
    for (int type = 0; type <= static_cast<int>(TensorType::kOther); ++type) {
        for (int layout = 0; layout <= static_cast<int>(TensorLayout::kOther); ++layout) {
            tensors[position].type = static_cast<TensorType>(type);
            tensors[position].layout = static_cast<TensorLayout>(layout);
            if (Rules::supports(position, tensors)) {
                count += combinations<Rules>(tensors, position + 1, found);
            }
        }
    }
    return count;
}

TEST(ConvLayouts, AreChannelsLastInOneTypeThroughout) {
    ConvTensors conv;
    std::vector<std::string> found;
    EXPECT_EQ(combinations<Conv>(conv.tensors, 0, &found), 3);
    // type and layout of X, selection, W, B, base, Y
    EXPECT_EQ(found, (std::vector<std::string>{"01 30 01 00 01 01 ", "12 30 12 10 12 12 ",
                                               "22 30 22 20 22 22 "}));
}

TEST(ConvLayouts, OfABaseOfOneValueAreLinear) {
    ConvTensors conv;
    conv.of(Conv::kBase) = shape({1, 1, 1, 1});
    std::vector<std::string> found;
    EXPECT_EQ(combinations<Conv>(conv.tensors, 0, &found), 3);
    EXPECT_EQ(found[1], "12 30 12 10 10 12 ");
}

TEST(GateLayouts, AreLinearOrChannelsLast) {
    Tensor tensors[2];
    std::vector<std::string> found;
    EXPECT_EQ(combinations<PAGGateRules>(tensors, 0, &found), 6);
}

TEST(GateTensors, AreChecked) {
    Tensor tensors[2];
    const auto refusal = [&tensors](TensorShape logits, TensorShape selection) -> std::string {
        tensors[0].shape = logits;
        tensors[1].shape = selection;
        try {
            PAGGateRules::checkTensors({}, tensors);
        } catch (const Refusal& refusal) {
            return refusal.what();
        }
        return "accepted";
    };
    EXPECT_EQ(refusal(shape({2, 7, 5, 6}), shape({2, 1, 5, 6})), "accepted");
    EXPECT_EQ(refusal(shape({-1, 2, -1, 6}), shape({2, 1, 5, 6})), "accepted");
    EXPECT_EQ(refusal(shape({2, 7, 5}), shape({2, 1, 5, 6})),
              "the logits must be (N, K, H, W), not of rank 3");
    EXPECT_EQ(refusal(shape({2, 17, 5, 6}), shape({2, 1, 5, 6})),
              "the logits have 17 channels; a gate has 1 to 16 branches");
    EXPECT_EQ(refusal(shape({2, 7, 5, 6}), shape({2, 7, 5, 6})),
              "the selection is 2x7x5x6 and must be 2x1x5x6 for logits of 2x7x5x6");
}

}  // namespace
}  // namespace pagdeploy

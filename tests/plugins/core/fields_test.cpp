// Attributes from fields and from bytes, and everything that is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/archive.hpp"
#include "pag_gate/rules.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy {
namespace {

using Conv = PerforatedConvRules;
using Ints = std::vector<std::int32_t>;

Conv::Attributes unusual() {
    Conv::Attributes attributes;
    attributes.kernel_shape = {3, 5};
    attributes.strides = {2, 1};
    attributes.pads = {1, 2, 3, 4};
    attributes.dilations = {7, 8};
    attributes.group = 4;
    attributes.branch = 6;
    attributes.mode = 1;
    attributes.activation = 3;
    attributes.alpha = 0.25f;
    return attributes;
}

std::string refusalOf(const std::vector<FieldView>& fields) {
    try {
        attributesFrom<Conv>(fields);
    } catch (const Refusal& refusal) {
        return refusal.what();
    }
    return "accepted";
}

FieldView ints(const char* name, const Ints& values) {
    return {name, values.data(), FieldType::kInt32, static_cast<std::int32_t>(values.size())};
}

TEST(Fields, SurviveTheRoundTrip) {
    const Conv::Attributes attributes = unusual();
    const auto read = attributesFrom<Conv>(fieldsOf<Conv>(attributes));
    EXPECT_EQ(textOfAttributes<Conv>(read), textOfAttributes<Conv>(attributes));
    EXPECT_EQ(read.pads, (Ints{1, 2, 3, 4}));
    EXPECT_EQ(read.alpha, 0.25f);
}

TEST(Fields, TextTellsCloseFloatsApart) {
    Conv::Attributes other = unusual();
    other.alpha = std::nextafter(other.alpha, 1.0f);
    EXPECT_NE(textOfAttributes<Conv>(other), textOfAttributes<Conv>(unusual()));
}

TEST(Fields, AbsentOnesKeepTheirDefaults) {
    const Ints kernel{1, 1};
    const auto read = attributesFrom<Conv>({ints("kernel_shape", kernel)});
    EXPECT_EQ(read.strides, (Ints{1, 1}));
    EXPECT_EQ(read.branch, 1);
    EXPECT_EQ(read.alpha, 0.01f);
}

TEST(Fields, AreRefusedWithTheirName) {
    const Ints one{1}, two{3, 3};
    const float real = 1.0f;
    const FieldView kernel = ints("kernel_shape", two);
    EXPECT_EQ(refusalOf({}), "attribute 'kernel_shape' is missing");
    EXPECT_EQ(refusalOf({kernel, ints("axis", one)}), "there is no attribute 'axis'");
    EXPECT_EQ(refusalOf({kernel, kernel}), "attribute 'kernel_shape' is given twice");
    EXPECT_EQ(refusalOf({{nullptr, two.data(), FieldType::kInt32, 2}}), "a field has no name");
    EXPECT_EQ(refusalOf({kernel, {"group", &real, FieldType::kFloat32, 1}}),
              "attribute 'group' must be one int32; the field has another type or length");
    EXPECT_EQ(refusalOf({kernel, {"alpha", one.data(), FieldType::kInt32, 1}}),
              "attribute 'alpha' must be one float32; the field has another type or length");
    EXPECT_EQ(refusalOf({{"kernel_shape", two.data(), FieldType::kOther, 2}}),
              "attribute 'kernel_shape' must be int32 values; the field has another type or "
              "length");
    EXPECT_NE(refusalOf({{"kernel_shape", two.data(), FieldType::kInt32, -1}}), "accepted");
    EXPECT_NE(refusalOf({{"kernel_shape", nullptr, FieldType::kInt32, 2}}), "accepted");
    EXPECT_NE(refusalOf({kernel, ints("group", two)}), "accepted");
    EXPECT_NE(refusalOf({kernel, {"group", nullptr, FieldType::kInt32, 1}}), "accepted");
}

TEST(Fields, WithImpossibleValuesAreRefused) {
    const Ints kernel{3, 3};
    const auto with = [&](const char* name, const Ints& values) {
        return refusalOf({ints("kernel_shape", kernel), ints(name, values)});
    };
    EXPECT_EQ(with("strides", {0, 1}),
              "attribute 'strides' must be 2 integers of at least 1");
    EXPECT_EQ(with("pads", {1, 1}), "attribute 'pads' must be 4 integers of at least 0");
    EXPECT_EQ(with("branch", {16}), "attribute 'branch' is 16 and must be in 0..15");
    EXPECT_EQ(with("mode", {2}), "attribute 'mode' is 2 and must be in 0..1");
    EXPECT_EQ(with("activation", {-1}), "attribute 'activation' is -1 and must be in 0..3");
    EXPECT_EQ(with("group", {0}), "attribute 'group' must be at least 1");
    EXPECT_EQ(with("dilations", {1 << 30, 1}), "kernel, dilation and pads reach too far");
    const float endless = std::numeric_limits<float>::infinity();
    EXPECT_EQ(refusalOf({ints("kernel_shape", kernel),
                         {"alpha", &endless, FieldType::kFloat32, 1}}),
              "attribute 'alpha' must be finite");
}

TEST(Fields, OfTheGateAreNone) {
    EXPECT_TRUE(fieldsOf<PAGGateRules>({}).empty());
    const std::int32_t one = 1;
    EXPECT_THROW(attributesFrom<PAGGateRules>({{"axis", &one, FieldType::kInt32, 1}}), Refusal);
}

TEST(Archive, SurvivesTheRoundTrip) {
    const std::vector<char> bytes = packAttributes<Conv>(unusual());
    const auto read = unpackAttributes<Conv>(bytes.data(), bytes.size());
    EXPECT_EQ(textOfAttributes<Conv>(read), textOfAttributes<Conv>(unusual()));
    EXPECT_EQ(packAttributes<PAGGateRules>({}).size(), 4u);
}

TEST(Archive, OfAnyOtherLengthIsRefused) {
    std::vector<char> bytes = packAttributes<Conv>(unusual());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_THROW(unpackAttributes<Conv>(bytes.data(), size), Refusal) << size;
    }
    bytes.push_back(0);
    EXPECT_THROW(unpackAttributes<Conv>(bytes.data(), bytes.size()), Refusal);
    EXPECT_THROW(unpackAttributes<Conv>(nullptr, bytes.size()), Refusal);
}

TEST(Archive, WithDamagedBytesNeverReadsBeyondThem) {
    const std::vector<char> bytes = packAttributes<Conv>(unusual());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        for (const int value : {0x00, 0x7F, 0x80, 0xFF}) {
            std::vector<char> damaged = bytes;
            damaged[i] = static_cast<char>(value);
            try {
                unpackAttributes<Conv>(damaged.data(), damaged.size());
            } catch (const Refusal&) {
                // Another value of an attribute may be as good; only a crash is wrong.
            }
        }
    }
}

}  // namespace
}  // namespace pagdeploy

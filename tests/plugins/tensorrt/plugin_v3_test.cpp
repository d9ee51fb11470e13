// Drives the V3 plugins through TensorRT's whole sequence of calls, with the kernels emulated.
#include "v3_fixture.hpp"

namespace pagdeploy::testing {
namespace {

TEST_F(PluginV3Test, LibraryListsEveryOpInBothNamespaces) {
    std::int32_t count = -1;
    ASSERT_NE(getCreators(count), nullptr);
    EXPECT_EQ(count, 4);
    for (const char* const space : {"pagdeploy", ""}) {
        for (const char* const name : {"PAGGate", "PerforatedConv"}) {
            auto* const found = creator(name, space);
            ASSERT_NE(found, nullptr) << name << " in '" << space << "'";
            EXPECT_STREQ(found->getPluginVersion(), "1");
            EXPECT_STREQ(found->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE");
        }
    }
    const auto* const fields = creator("PerforatedConv")->getFieldNames();
    ASSERT_EQ(fields->nbFields, 9);
    EXPECT_STREQ(fields->fields[0].name, "kernel_shape");
    EXPECT_EQ(fields->fields[8].type, nvinfer1::PluginFieldType::kFLOAT32);
    EXPECT_EQ(creator("PAGGate")->getFieldNames()->nbFields, 0);
}

// TensorRT's order of calls, from the parser to a running context.
template <typename Element>
void wholeSequence(int channels, int outputs, IPluginCreatorV3One* creator) {
    ConvExample<Element> example(2, channels, outputs);
    const PluginFieldCollection parsed = example.collection();
    std::unique_ptr<IPluginV3> plugin(
        creator->createPlugin("conv", &parsed, TensorRTPhase::kBUILD));
    ASSERT_NE(plugin, nullptr);
    std::fill_n(example.pads, 4, -1);  // fields are borrowed only while the plugin is made

    ASSERT_NE(coreOf(plugin.get()), nullptr);
    EXPECT_STREQ(coreOf(plugin.get())->getPluginName(), "PerforatedConv");
    auto* const build = buildOf(plugin.get());
    ASSERT_EQ(build->getNbOutputs(), 1);
    EXPECT_EQ(build->getInterfaceInfo().major, 1);

    const auto exact = exactDescs(example);
    nvinfer1::DataType inputTypes[5], outputType{};
    for (int i = 0; i < 5; ++i) {
        inputTypes[i] = exact[i].type;
    }
    ASSERT_EQ(build->getOutputDataTypes(&outputType, 1, inputTypes, 5), 0);
    EXPECT_EQ(outputType, exact[5].type);

    FakeBuilder builder;
    const auto inputs = expressions(example, builder);
    nvinfer1::DimsExprs shape{};
    ASSERT_EQ(build->getOutputShapes(inputs.data(), 5, nullptr, 0, &shape, 1, builder), 0);
    ASSERT_EQ(shape.nbDims, 4);
    for (int axis = 0; axis < 4; ++axis) {
        EXPECT_EQ(fake(shape.d[axis]).value(), example.shapes[5][axis]);
        EXPECT_EQ(fake(shape.d[axis]).constant(), axis == 1);
    }

    auto tried = dynamicDescs(example);
    const int combinations = countCombinations(tried, 0, [&](std::int32_t position) {
        return build->supportsFormatCombination(position, tried.data(), 5, 1);
    });
    EXPECT_EQ(combinations, 2);  // float32 and float16; bfloat16 was not offered
    EXPECT_LE(combinations, build->getFormatCombinationLimit());

    const auto dynamic = dynamicDescs(example);
    ASSERT_EQ(build->configurePlugin(dynamic.data(), 5, dynamic.data() + 5, 1), 0);
    const std::size_t bytes = build->getWorkspaceSize(dynamic.data(), 5, dynamic.data() + 5, 1);
    // Two lists of all pixels of the largest output, 4x24x9x20, at least.
    EXPECT_GE(bytes, std::size_t{2} * sizeof(int) * 4 * 9 * 20);
    EXPECT_EQ(build->getNbTactics(), 0);
    EXPECT_NE(std::string(build->getTimingCacheID()), "");

    std::unique_ptr<IPluginV3> copy(plugin->clone());
    ASSERT_NE(copy, nullptr);
    const StoredFields stored(*runtimeOf(plugin.get())->getFieldsToSerialize());
    EXPECT_TRUE(stored == StoredFields(*runtimeOf(copy.get())->getFieldsToSerialize()));
    EXPECT_STREQ(buildOf(copy.get())->getTimingCacheID(), build->getTimingCacheID());
    plugin.reset();  // the engine file outlives the plugin

    const PluginFieldCollection loaded = stored.collection();
    std::unique_ptr<IPluginV3> restored(
        creator->createPlugin("conv", &loaded, TensorRTPhase::kRUNTIME));
    ASSERT_NE(restored, nullptr);
    EXPECT_TRUE(stored == StoredFields(*runtimeOf(restored.get())->getFieldsToSerialize()));

    std::unique_ptr<IPluginV3> context(runtimeOf(restored.get())->attachToContext(nullptr));
    ASSERT_NE(context, nullptr);
    ASSERT_NE(context.get(), restored.get());
    ASSERT_EQ(runtimeOf(context.get())->onShapeChange(exact.data(), 5, exact.data() + 5, 1), 0);
    auto data = example.inputs();
    void* output = example.y.data();
    for (int run = 0; run < 2; ++run) {
        Buffer workspace(bytes);  // poisoned: nothing survives from run to run
        example.y.poison();
        ASSERT_EQ(runtimeOf(context.get())->enqueue(exact.data(), exact.data() + 5, data.data(),
                                                    &output, workspace.data(), nullptr), 0);
        EXPECT_EQ(example.wrongValues(), 0);
    }
    EXPECT_STREQ(fakeTakeMessages(), "");
}

TEST_F(PluginV3Test, ConvLivesThroughTheWholeSequence) {
    wholeSequence<float>(6, 10, creator("PerforatedConv"));
    wholeSequence<Half>(16, 24, creator("PerforatedConv"));
    wholeSequence<Half>(16, 24, creator("PerforatedConv", ""));
}

TEST_F(PluginV3Test, ConvServesChannelsThatAreNoMultipleOfEight) {
    wholeSequence<Half>(12, 20, creator("PerforatedConv"));
}

TEST_F(PluginV3Test, PluginsKnowTheNamespaceOfTheirCreator) {
    const PluginFieldCollection none{0, nullptr};
    for (const char* const space : {"pagdeploy", ""}) {
        std::unique_ptr<IPluginV3> gate(
            creator("PAGGate", space)->createPlugin("gate", &none, TensorRTPhase::kBUILD));
        ASSERT_NE(gate, nullptr);
        std::unique_ptr<IPluginV3> copy(gate->clone());
        EXPECT_STREQ(coreOf(copy.get())->getPluginNamespace(), space);
    }
}

TEST_F(PluginV3Test, GateSelectsTheFirstLargestLogit) {
    const PluginFieldCollection none{0, nullptr};
    std::unique_ptr<IPluginV3> gate(
        creator("PAGGate")->createPlugin("gate", &none, TensorRTPhase::kBUILD));
    ASSERT_NE(gate, nullptr);
    constexpr int kPixels = 2 * 3 * 5;
    const nvinfer1::Dims dims = dimsOf({2, 3, 3, 5});
    const PluginTensorDesc in{dims, nvinfer1::DataType::kFLOAT, nvinfer1::TensorFormat::kLINEAR,
                              -1.0f};
    const PluginTensorDesc out{dimsOf({2, 1, 3, 5}), nvinfer1::DataType::kINT32,
                               nvinfer1::TensorFormat::kLINEAR, -1.0f};
    std::vector<float> logits(3 * kPixels);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] = static_cast<float>(smallInteger(static_cast<int>(i)));
    }
    std::vector<std::int32_t> selection(kPixels, -1);
    const void* inputs[] = {logits.data()};
    void* outputs[] = {selection.data()};
    ASSERT_EQ(runtimeOf(gate.get())->onShapeChange(&in, 1, &out, 1), 0);
    ASSERT_EQ(runtimeOf(gate.get())->enqueue(&in, &out, inputs, outputs, nullptr, nullptr), 0);
    for (int pixel = 0; pixel < kPixels; ++pixel) {
        const float* const first = &logits[pixel / 15 * 45 + pixel % 15];
        int largest = 0;
        for (int k = 1; k < 3; ++k) {
            largest = first[k * 15] > first[largest * 15] ? k : largest;
        }
        EXPECT_EQ(selection[pixel], largest) << pixel;
    }
}

TEST_F(PluginV3Test, ContextsFollowTheirOwnShapes) {
    ConvExample<float> one(1, 8, 8), three(3, 8, 8);
    const auto plugin = create(one);
    std::unique_ptr<IPluginV3> first(runtimeOf(plugin.get())->attachToContext(nullptr));
    std::unique_ptr<IPluginV3> second(runtimeOf(plugin.get())->attachToContext(nullptr));
    for (int round = 0; round < 2; ++round) {
        for (auto* const context : {first.get(), second.get()}) {
            for (auto* const example : {&one, &three}) {
                example->y.poison();
                ASSERT_EQ(enqueue(*context, *example), 0);
                EXPECT_EQ(example->wrongValues(), 0);
            }
        }
    }
}

TEST_F(PluginV3Test, EmptyTensorsNeedNoLaunch) {
    ConvExample<float> example(1, 8, 8);
    const auto plugin = create(example);
    auto exact = exactDescs(example);
    for (const int i : {0, 1, 4, 5}) {
        exact[i].dims.d[0] = 0;
    }
    const void* inputs[5] = {};
    void* output = nullptr;
    EXPECT_EQ(runtimeOf(plugin.get())->enqueue(exact.data(), exact.data() + 5, inputs, &output,
                                               nullptr, nullptr), 0);
}

}  // namespace
}  // namespace pagdeploy::testing

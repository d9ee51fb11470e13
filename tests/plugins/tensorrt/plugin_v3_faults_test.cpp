// What the V3 plugins do when they are called wrongly, without memory, or by a foreign TensorRT.
#include "v3_fixture.hpp"

namespace pagdeploy::testing {
namespace {

TEST_F(PluginV3Test, BadFieldsGiveNothingAndOneLine) {
    ConvExample<float> example(1, 8, 8);
    const auto bad = [&](const char* name, nvinfer1::PluginFieldType type, std::int32_t length) {
        auto fields = example.fields;
        static const std::int32_t data[4] = {1, 1, 1, 1};
        fields.erase(std::remove_if(fields.begin(), fields.end(),
                                    [&](auto& f) { return std::string(f.name) == name; }),
                     fields.end());
        fields.emplace_back(name, data, type, length);
        const PluginFieldCollection collection{static_cast<std::int32_t>(fields.size()),
                                               fields.data()};
        for (const auto phase : {TensorRTPhase::kBUILD, TensorRTPhase::kRUNTIME}) {
            EXPECT_EQ(creator("PerforatedConv")->createPlugin("conv", &collection, phase), nullptr);
        }
        const std::string messages = fakeTakeMessages();
        EXPECT_EQ(std::count(messages.begin(), messages.end(), '\n'), 2) << messages;
        return messages.substr(0, messages.find('\n'));
    };
    using nvinfer1::PluginFieldType;
    EXPECT_EQ(bad("strides", PluginFieldType::kINT32, 1),
              "pagdeploy: PerforatedConv.createPlugin: attribute 'strides' must be 2 integers of "
              "at least 1");
    EXPECT_EQ(bad("strides", PluginFieldType::kINT64, 2),
              "pagdeploy: PerforatedConv.createPlugin: attribute 'strides' must be int32 values; "
              "the field has another type or length");
    EXPECT_EQ(bad("stride", PluginFieldType::kINT32, 2),
              "pagdeploy: PerforatedConv.createPlugin: there is no attribute 'stride'");
    EXPECT_EQ(creator("PAGGate")->createPlugin("gate", nullptr, TensorRTPhase::kBUILD), nullptr);
    EXPECT_STREQ(fakeTakeMessages(),
                 "pagdeploy: PAGGate.createPlugin: there is no list of attributes\n");
}

TEST_F(PluginV3Test, SizesThatCannotBeRightAreRefusedWhenConfigured) {
    ConvExample<Half> example(2, 16, 24);
    const auto plugin = create(example);
    ASSERT_EQ(configure(*plugin, example), 0);
    auto descs = dynamicDescs(example);
    for (auto* const dims : {&descs[1].desc.dims, &descs[1].min, &descs[1].max}) {
        dims->d[2] = 9;  // the input's height, not the output's
    }
    for (auto* const dims : {&descs[0].desc.dims, &descs[0].min, &descs[0].max}) {
        dims->d[2] = 9;
    }
    EXPECT_NE(buildOf(plugin.get())->configurePlugin(descs.data(), 5, descs.data() + 5, 1), 0);
    EXPECT_STREQ(fakeTakeMessages(),
                 "pagdeploy: PerforatedConv.configurePlugin: the selection is ?x1x9x? and the "
                 "output is ?x24x5x?: it must be ?x1x5x?, or ?x1x1x1 for one decision per "
                 "image\n");
    // The same in a runtime whose shapes do not fit.
    auto exact = exactDescs(example);
    exact[1].dims.d[3] = 7;
    EXPECT_NE(runtimeOf(plugin.get())->onShapeChange(exact.data(), 5, exact.data() + 5, 1), 0);
    EXPECT_NE(std::string(fakeTakeMessages()).find("selection is 2x1x5x7"), std::string::npos);
}

TEST_F(PluginV3Test, WrongNumbersOfTensorsAreRefused) {
    ConvExample<float> example(1, 8, 8);
    const auto plugin = create(example);
    nvinfer1::DataType type{};
    EXPECT_NE(buildOf(plugin.get())->getOutputDataTypes(&type, 1, &type, 1), 0);
    FakeBuilder builder;
    nvinfer1::DimsExprs shape{};
    EXPECT_NE(buildOf(plugin.get())->getOutputShapes(&shape, 1, nullptr, 0, &shape, 1, builder), 0);
    EXPECT_FALSE(buildOf(plugin.get())->supportsFormatCombination(0, nullptr, 4, 1));
}

TEST_F(PluginV3Test, MisalignedAddressesAreRefused) {
    ConvExample<Half> example(2, 16, 24);
    const auto plugin = create(example);
    const auto exact = exactDescs(example);
    auto inputs = example.inputs();
    inputs[0] = static_cast<const char*>(inputs[0]) + 2;
    void* output = example.y.data();
    Buffer workspace(1 << 16);
    EXPECT_NE(runtimeOf(plugin.get())->enqueue(exact.data(), exact.data() + 5, inputs.data(),
                                               &output, workspace.data(), nullptr), 0);
    EXPECT_STREQ(fakeTakeMessages(),
                 "pagdeploy: PerforatedConv.enqueue: launching the convolution: misaligned "
                 "address\n");
    EXPECT_NE(runtimeOf(plugin.get())->enqueue(exact.data(), exact.data() + 5,
                                               example.inputs().data(), &output, nullptr,
                                               nullptr), 0);
}

// Fails one allocation after the other until a call gets through; it must report, never throw.
template <typename Call>
int allocationsSurvived(Call&& succeeds) {
    for (int number = 0; number < 1000; ++number) {
        failAllocation(number);
        const bool success = succeeds();
        failAllocation(-1);
        if (success) {
            return number;
        }
    }
    return -1;
}

TEST_F(PluginV3Test, NoMemoryIsAFailureNotACrash) {
    ConvExample<float> example(1, 8, 8);
    const auto plugin = create(example);
    const PluginFieldCollection fields = example.collection();
    auto* const conv = creator("PerforatedConv");
    EXPECT_GT(allocationsSurvived([&] {
        std::unique_ptr<IPluginV3> made(conv->createPlugin("c", &fields, TensorRTPhase::kBUILD));
        return made != nullptr;
    }), 3);
    EXPECT_NE(std::string(fakeTakeMessages()).find("createPlugin: out of host memory"),
              std::string::npos);
    EXPECT_GT(allocationsSurvived([&] {
        std::unique_ptr<IPluginV3> made(plugin->clone());
        return made != nullptr;
    }), 3);
    auto descs = dynamicDescs(example);
    descs[1].desc.dims.d[1] = 2;  // a sentence has to be made
    for (int number = 0; number < 20; ++number) {
        failAllocation(number);
        EXPECT_NE(buildOf(plugin.get())->configurePlugin(descs.data(), 5, descs.data() + 5, 1), 0);
        failAllocation(-1);
    }
}

TEST_F(PluginV3Test, OnlyALoggerOfTheSameMajorVersionIsCalled) {
    const auto messagesOf = [&] {
        EXPECT_EQ(creator("PAGGate")->createPlugin("gate", nullptr, TensorRTPhase::kBUILD),
                  nullptr);
        return std::string(fakeTakeMessages());
    };
    EXPECT_NE(messagesOf(), "");
    for (const int major : {NV_TENSORRT_MAJOR - 1, NV_TENSORRT_MAJOR + 1, 1, 0}) {
        fakeSetMajorVersion(major);
        setLoggerFinder(fakeLoggerFinder());
        EXPECT_EQ(messagesOf(), "") << major;
    }
    fakeSetMajorVersion(NV_TENSORRT_MAJOR);
    setLoggerFinder(fakeLoggerFinder());
    fakeSetLoggerPresent(false);
    EXPECT_EQ(messagesOf(), "");
    fakeSetLoggerPresent(true);
    EXPECT_NE(messagesOf(), "");
    setLoggerFinder(nullptr);
    EXPECT_EQ(messagesOf(), "");
}

}  // namespace
}  // namespace pagdeploy::testing

// Drives the V2 plugins through TensorRT 8's whole sequence of calls, with the kernels emulated.
#include <gtest/gtest.h>

#include "conv_example.hpp"
#include "failing_new.hpp"
#include "fake_builder.hpp"
#include "fake_tensorrt.hpp"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

extern "C" nvinfer1::IPluginCreator* const* getPluginCreators(std::int32_t& count);
#if PAG_TENSORRT_HAS_LOGGER_FINDER
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
#endif

namespace pagdeploy::testing {
namespace {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCreator;
using nvinfer1::IPluginV2;
using nvinfer1::IPluginV2DynamicExt;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;

struct Destroy {
    void operator()(IPluginV2* plugin) const { plugin->destroy(); }
};
using Plugin = std::unique_ptr<IPluginV2DynamicExt, Destroy>;

class PluginV2Test : public ::testing::Test {
protected:
    void SetUp() override {
        fakeSetMajorVersion(NV_TENSORRT_MAJOR);
        fakeTakeMessages();
#if PAG_TENSORRT_HAS_LOGGER_FINDER
        setLoggerFinder(fakeLoggerFinder());
#endif
    }
    void TearDown() override {
        failAllocation(-1);
#if PAG_TENSORRT_HAS_LOGGER_FINDER
        setLoggerFinder(nullptr);
#endif
    }

    // 8.5 has no logger to ask.
    static void expectMessage(const std::string& text) {
#if PAG_TENSORRT_HAS_LOGGER_FINDER
        EXPECT_EQ(fakeTakeMessages(), text);
#else
        (void)text;
#endif
    }

    static IPluginCreator* creator(const std::string& name, const std::string& space) {
        std::int32_t count = 0;
        auto* const* const creators = getPluginCreators(count);
        for (std::int32_t i = 0; i < count; ++i) {
            if (creators[i]->getPluginName() == name &&
                creators[i]->getPluginNamespace() == space) {
                return creators[i];
            }
        }
        return nullptr;
    }

    static Plugin adopt(IPluginV2* plugin) {
        return Plugin(static_cast<IPluginV2DynamicExt*>(plugin));
    }

    template <typename Element>
    static Plugin create(const ConvExample<Element>& example) {
        const PluginFieldCollection fields = example.collection();
        return adopt(creator("PerforatedConv", "pagdeploy")->createPlugin("conv", &fields));
    }

    static std::vector<char> serialized(const IPluginV2& plugin) {
        std::vector<char> bytes(plugin.getSerializationSize());
        plugin.serialize(bytes.data());
        return bytes;
    }

    template <typename Element>
    static std::vector<DynamicPluginTensorDesc> staticDescs(const ConvExample<Element>& example) {
        std::vector<DynamicPluginTensorDesc> descs(6);
        for (int i = 0; i < 6; ++i) {
            descs[i].desc = example.desc(i);
            descs[i].min = descs[i].max = descs[i].desc.dims;
        }
        return descs;
    }
};

TEST_F(PluginV2Test, LibraryListsEveryOpInBothNamespaces) {
    std::int32_t count = -1;
    ASSERT_NE(getPluginCreators(count), nullptr);
    EXPECT_EQ(count, 4);
    for (const char* const space : {"pagdeploy", ""}) {
        for (const char* const name : {"PAGGate", "PerforatedConv"}) {
            ASSERT_NE(creator(name, space), nullptr) << name << " in '" << space << "'";
            EXPECT_STREQ(creator(name, space)->getPluginVersion(), "1");
        }
    }
    EXPECT_EQ(creator("PerforatedConv", "")->getFieldNames()->nbFields, 9);
    EXPECT_EQ(creator("PAGGate", "")->getFieldNames()->nbFields, 0);
}

template <typename Element>
void wholeSequence(int channels, int outputs, IPluginCreator* creator) {
    ConvExample<Element> example(2, channels, outputs);
    const PluginFieldCollection parsed = example.collection();
    Plugin plugin(static_cast<IPluginV2DynamicExt*>(creator->createPlugin("conv", &parsed)));
    ASSERT_NE(plugin, nullptr);
    std::fill_n(example.pads, 4, -1);  // fields are borrowed only while the plugin is made
    EXPECT_STREQ(plugin->getPluginType(), "PerforatedConv");
    ASSERT_EQ(plugin->getNbOutputs(), 1);

    std::vector<PluginTensorDesc> descs;
    nvinfer1::DataType types[5];
    FakeBuilder builder;
    nvinfer1::DimsExprs inputs[5]{};
    for (int i = 0; i < 6; ++i) {
        descs.push_back(example.desc(i));
        if (i == 5) {
            break;
        }
        types[i] = descs[i].type;
        for (const int size : example.shapes[i]) {
            const bool fixed = i == 2 || i == 3;
            inputs[i].d[inputs[i].nbDims++] = fixed ? builder.known(size) : builder.symbol(size);
        }
    }
    EXPECT_EQ(plugin->getOutputDataType(0, types, 5), descs[5].type);
    const auto shape = plugin->getOutputDimensions(0, inputs, 5, builder);
    ASSERT_EQ(shape.nbDims, 4);
    for (int axis = 0; axis < 4; ++axis) {
        EXPECT_EQ(fake(shape.d[axis]).value(), example.shapes[5][axis]);
    }
    for (int position = 0; position < 6; ++position) {
        EXPECT_TRUE(plugin->supportsFormatCombination(position, descs.data(), 5, 1));
    }
    descs[1].type = nvinfer1::DataType::kBOOL;
    EXPECT_FALSE(plugin->supportsFormatCombination(1, descs.data(), 5, 1));
    descs[1].type = nvinfer1::DataType::kINT32;

    std::vector<DynamicPluginTensorDesc> profile(6);
    for (int i = 0; i < 6; ++i) {
        profile[i] = {descs[i], descs[i].dims, descs[i].dims};
    }
    plugin->configurePlugin(profile.data(), 5, profile.data() + 5, 1);
    ASSERT_EQ(plugin->initialize(), 0);
    const std::size_t bytes = plugin->getWorkspaceSize(descs.data(), 5, descs.data() + 5, 1);
    EXPECT_GT(bytes, 0u);

    plugin->setPluginNamespace("elsewhere");
    Plugin copy(plugin->clone());
    ASSERT_NE(copy, nullptr);
    EXPECT_STREQ(copy->getPluginNamespace(), "elsewhere");
    std::vector<char> engine(copy->getSerializationSize());
    copy->serialize(engine.data());
    plugin.reset();

    Plugin restored(static_cast<IPluginV2DynamicExt*>(
        creator->deserializePlugin("conv", engine.data(), engine.size())));
    ASSERT_NE(restored, nullptr);
    std::vector<char> again(restored->getSerializationSize());
    restored->serialize(again.data());
    EXPECT_EQ(engine, again);

    Plugin context(restored->clone());
    const auto data = example.inputs();
    void* output = example.y.data();
    for (int run = 0; run < 2; ++run) {
        Buffer workspace(bytes);  // poisoned: nothing survives from run to run
        example.y.poison();
        ASSERT_EQ(context->enqueue(descs.data(), descs.data() + 5, data.data(), &output,
                                   workspace.data(), nullptr), 0);
        EXPECT_EQ(example.wrongValues(), 0);
    }
    context->terminate();
    EXPECT_STREQ(fakeTakeMessages(), "");
}

TEST_F(PluginV2Test, ConvLivesThroughTheWholeSequence) {
    wholeSequence<float>(6, 10, creator("PerforatedConv", "pagdeploy"));
    wholeSequence<Half>(16, 24, creator("PerforatedConv", ""));
}

TEST_F(PluginV2Test, DamagedEnginesAreRefused) {
    auto* const conv = creator("PerforatedConv", "pagdeploy");
    std::vector<char> bytes = serialized(*create(ConvExample<float>(1, 8, 8)));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_EQ(conv->deserializePlugin("conv", bytes.data(), size), nullptr) << size;
    }
    fakeTakeMessages();
    bytes[0] = 9;
    EXPECT_EQ(conv->deserializePlugin("conv", bytes.data(), bytes.size()), nullptr);
    expectMessage("pagdeploy: PerforatedConv.deserializePlugin: the engine holds attributes in "
                  "format 9, and this library reads format 1\n");
    EXPECT_EQ(conv->deserializePlugin("conv", nullptr, 0), nullptr);
}

TEST_F(PluginV2Test, BadFieldsGiveNothingAndOneLine) {
    ConvExample<float> example(1, 8, 8);
    example.fields[2].length = 1;
    EXPECT_EQ(create(example), nullptr);
    expectMessage("pagdeploy: PerforatedConv.createPlugin: attribute 'strides' must be 2 "
                  "integers of at least 1\n");
}

TEST_F(PluginV2Test, SizesThatCannotBeRightAreRefusedAfterConfiguring) {
    const ConvExample<Half> example(2, 16, 24);
    const Plugin plugin = create(example);
    auto descs = staticDescs(example);
    for (auto* const dims : {&descs[1].desc.dims, &descs[1].min, &descs[1].max}) {
        dims->d[2] = 9;
    }
    plugin->configurePlugin(descs.data(), 5, descs.data() + 5, 1);
    EXPECT_NE(plugin->initialize(), 0);
    EXPECT_NE(Plugin(plugin->clone())->initialize(), 0);
    expectMessage("pagdeploy: PerforatedConv.configurePlugin: the selection is 2x1x9x9 and the "
                  "output is 2x24x5x9: it must be 2x1x5x9, or 2x1x1x1 for one decision per "
                  "image\n");
    descs = staticDescs(example);
    plugin->configurePlugin(descs.data(), 5, descs.data() + 5, 1);
    EXPECT_EQ(plugin->initialize(), 0);
    FakeBuilder builder;
    nvinfer1::DimsExprs none{};
    EXPECT_EQ(plugin->getOutputDimensions(0, &none, 1, builder).nbDims, -1);
}

TEST_F(PluginV2Test, NoMemoryIsAFailureNotACrash) {
    const ConvExample<float> example(1, 8, 8);
    const Plugin plugin = create(example);
    const PluginFieldCollection fields = example.collection();
    auto* const conv = creator("PerforatedConv", "pagdeploy");
    const std::vector<char> bytes = serialized(*plugin);
    int failures = 0;
    for (int number = 0; number < 100; ++number) {
        failAllocation(number);
        IPluginV2* const made = conv->createPlugin("c", &fields);
        failAllocation(number);
        IPluginV2* const restored = conv->deserializePlugin("c", bytes.data(), bytes.size());
        failAllocation(number);
        IPluginV2* const copy = plugin->clone();
        failAllocation(-1);
        for (IPluginV2* const one : {made, restored, copy}) {
            failures += one == nullptr;
            adopt(one);
        }
    }
    EXPECT_GT(failures, 9);
}

}  // namespace
}  // namespace pagdeploy::testing

// The built library as TensorRT loads it: plugin_library_test LIBRARY [libnvinfer_lean.so.N].
//
// With a TensorRT library its own registry loads the plugins; without, the two exported functions
// are called directly. Needs no GPU: nothing is launched.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "fake_tensorrt.hpp"
#include "v3_calls.hpp"

namespace pagdeploy::testing {
namespace {

const char* libraryPath = nullptr;
const char* runtimePath = nullptr;

template <typename Function>
Function functionOf(void* library, const char* name) {
    return reinterpret_cast<Function>(dlsym(library, name));
}

class LibraryTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (runtimePath == nullptr) {
            library_ = dlopen(libraryPath, RTLD_NOW | RTLD_LOCAL);
            ASSERT_NE(library_, nullptr) << dlerror();
            const auto setFinder = functionOf<void (*)(nvinfer1::ILoggerFinder*)>(
                library_, "setLoggerFinder");
            ASSERT_NE(setFinder, nullptr);
            setFinder(fakeLoggerFinder());
            return;
        }
        void* const runtime = dlopen(runtimePath, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(runtime, nullptr) << dlerror();
        const auto registry =
            functionOf<nvinfer1::IPluginRegistry* (*)()>(runtime, "getPluginRegistry");
        ASSERT_NE(registry, nullptr);
        registry_ = registry();
        library_ = registry_->loadLibrary(libraryPath);
        ASSERT_NE(library_, nullptr) << "the registry did not load " << libraryPath;
    }

    void TearDown() override {
        if (library_ == nullptr) {
            return;
        }
        if (registry_ == nullptr) {
            dlclose(library_);
            return;
        }
        registry_->deregisterLibrary(library_);
        EXPECT_EQ(registry_->getCreator("PAGGate", "1", "pagdeploy"), nullptr);
    }

    IPluginCreatorV3One* creator(const std::string& name, const std::string& space) const {
        if (registry_ != nullptr) {
            return static_cast<IPluginCreatorV3One*>(
                registry_->getCreator(name.c_str(), "1", space.c_str()));
        }
        using List = nvinfer1::IPluginCreatorInterface* const*;
        const auto creators = functionOf<List (*)(std::int32_t&)>(library_, "getCreators");
        std::int32_t count = 0;
        const List list = creators(count);
        for (std::int32_t i = 0; i < count; ++i) {
            auto* const candidate = static_cast<IPluginCreatorV3One*>(list[i]);
            if (candidate->getPluginName() == name && candidate->getPluginNamespace() == space) {
                return candidate;
            }
        }
        return nullptr;
    }

    void* library_ = nullptr;
    nvinfer1::IPluginRegistry* registry_ = nullptr;
};

TEST_F(LibraryTest, RegistersEveryOpInBothNamespaces) {
    for (const char* const space : {"pagdeploy", ""}) {
        EXPECT_NE(creator("PAGGate", space), nullptr);
        EXPECT_NE(creator("PerforatedConv", space), nullptr);
    }
    if (registry_ != nullptr) {
        EXPECT_EQ(registry_->loadLibrary(libraryPath), nullptr) << "loaded twice";
    }
}

TEST_F(LibraryTest, CarriesFieldsFromTheParserThroughTheEngine) {
    for (const char* const space : {"pagdeploy", ""}) {
        ConvExample<Half> example(2, 16, 24);
        const PluginFieldCollection parsed = example.collection();
        auto* const conv = creator("PerforatedConv", space);
        ASSERT_NE(conv, nullptr);
        std::unique_ptr<IPluginV3> plugin(
            conv->createPlugin("conv", &parsed, TensorRTPhase::kBUILD));
        ASSERT_NE(plugin, nullptr);
        const StoredFields stored(*runtimeOf(plugin.get())->getFieldsToSerialize());
        ASSERT_EQ(stored.collection().nbFields, 9);
        std::unique_ptr<IPluginV3> copy(plugin->clone());
        plugin.reset();
        const PluginFieldCollection loaded = stored.collection();
        std::unique_ptr<IPluginV3> restored(
            conv->createPlugin("conv", &loaded, TensorRTPhase::kRUNTIME));
        ASSERT_NE(restored, nullptr);
        for (IPluginV3* const one : {copy.get(), restored.get()}) {
            EXPECT_TRUE(stored == StoredFields(*runtimeOf(one)->getFieldsToSerialize()));
            EXPECT_STREQ(coreOf(one)->getPluginNamespace(), space);
        }
    }
}

TEST_F(LibraryTest, ShapesFormatsAndWorkspaceNeedNoGpu) {
    const ConvExample<Half> example(2, 16, 24);
    const PluginFieldCollection parsed = example.collection();
    std::unique_ptr<IPluginV3> plugin(creator("PerforatedConv", "pagdeploy")
                                          ->createPlugin("conv", &parsed, TensorRTPhase::kBUILD));
    ASSERT_NE(plugin, nullptr);
    auto* const build = buildOf(plugin.get());
    FakeBuilder builder;
    const auto inputs = expressions(example, builder);
    nvinfer1::DimsExprs shape{};
    ASSERT_EQ(build->getOutputShapes(inputs.data(), 5, nullptr, 0, &shape, 1, builder), 0);
    for (int axis = 0; axis < 4; ++axis) {
        EXPECT_EQ(fake(shape.d[axis]).value(), example.shapes[5][axis]);
    }
    auto tensors = dynamicDescs(example);
    ASSERT_EQ(build->configurePlugin(tensors.data(), 5, tensors.data() + 5, 1), 0);
    EXPECT_GT(build->getWorkspaceSize(tensors.data(), 5, tensors.data() + 5, 1), 0u);
    const int combinations = countCombinations(tensors, 0, [&](std::int32_t position) {
        return build->supportsFormatCombination(position, tensors.data(), 5, 1);
    });
    EXPECT_EQ(combinations, 2);
}

TEST_F(LibraryTest, BadFieldsAreRefused) {
    ConvExample<Half> example(2, 16, 24);
    example.fields[2].length = 1;
    const PluginFieldCollection fields = example.collection();
    fakeTakeMessages();
    EXPECT_EQ(creator("PerforatedConv", "")->createPlugin("conv", &fields, TensorRTPhase::kBUILD),
              nullptr);
    if (registry_ == nullptr) {
        EXPECT_NE(std::string(fakeTakeMessages()).find("'strides'"), std::string::npos);
    }
}

// Where there is no GPU this is a failure with a sentence, where there is one a success; never a
// crash.
TEST_F(LibraryTest, WithoutADeviceShapesCannotBePlanned) {
    const ConvExample<Half> example(2, 16, 24);
    const PluginFieldCollection parsed = example.collection();
    std::unique_ptr<IPluginV3> plugin(creator("PerforatedConv", "pagdeploy")
                                          ->createPlugin("conv", &parsed, TensorRTPhase::kBUILD));
    ASSERT_NE(plugin, nullptr);
    const auto exact = exactDescs(example);
    fakeTakeMessages();
    const auto status =
        runtimeOf(plugin.get())->onShapeChange(exact.data(), 5, exact.data() + 5, 1);
    if (status != 0 && registry_ == nullptr) {
        EXPECT_NE(std::string(fakeTakeMessages()).find("onShapeChange: choosing a kernel: "),
                  std::string::npos);
    }
}

}  // namespace
}  // namespace pagdeploy::testing

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s LIBRARY [libnvinfer_lean.so.N]\n", argv[0]);
        return 2;
    }
    pagdeploy::testing::libraryPath = argv[1];
    pagdeploy::testing::runtimePath = argc > 2 ? argv[2] : nullptr;
    return RUN_ALL_TESTS();
}

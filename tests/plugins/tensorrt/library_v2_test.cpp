// The built library as TensorRT 8 loads it: plugin_library_test LIBRARY [libnvinfer.so.8].
//
// With a TensorRT library its own registry loads the plugins; without, the exported functions are
// called directly. Needs no GPU: nothing is launched.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "conv_example.hpp"
#include "fake_builder.hpp"
#include "fake_tensorrt.hpp"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace pagdeploy::testing {
namespace {

const char* libraryPath = nullptr;
const char* runtimePath = nullptr;

class LibraryV2Test : public ::testing::Test {
protected:
    void SetUp() override {
        if (runtimePath == nullptr) {
            library_ = dlopen(libraryPath, RTLD_NOW | RTLD_LOCAL);
            ASSERT_NE(library_, nullptr) << dlerror();
            return;
        }
#if PAG_TENSORRT_HAS_LOGGER_FINDER
        void* const runtime = dlopen(runtimePath, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(runtime, nullptr) << dlerror();
        using GetRegistry = nvinfer1::IPluginRegistry* (*)();
        const auto registry = reinterpret_cast<GetRegistry>(dlsym(runtime, "getPluginRegistry"));
        ASSERT_NE(registry, nullptr);
        registry_ = registry();
        library_ = registry_->loadLibrary(libraryPath);
        ASSERT_NE(library_, nullptr) << "the registry did not load " << libraryPath;
#endif
    }

    void TearDown() override {
        if (library_ == nullptr) {
            return;
        }
#if PAG_TENSORRT_HAS_LOGGER_FINDER
        if (registry_ != nullptr) {
            registry_->deregisterLibrary(library_);
            EXPECT_EQ(registry_->getPluginCreator("PAGGate", "1", "pagdeploy"), nullptr);
            return;
        }
#endif
        dlclose(library_);
    }

    nvinfer1::IPluginCreator* creator(const std::string& name, const std::string& space) const {
        if (registry_ != nullptr) {
            return registry_->getPluginCreator(name.c_str(), "1", space.c_str());
        }
        using GetCreators = nvinfer1::IPluginCreator* const* (*)(std::int32_t&);
        const auto creators =
            reinterpret_cast<GetCreators>(dlsym(library_, "getPluginCreators"));
        std::int32_t count = 0;
        auto* const* const list = creators(count);
        for (std::int32_t i = 0; i < count; ++i) {
            if (list[i]->getPluginName() == name && list[i]->getPluginNamespace() == space) {
                return list[i];
            }
        }
        return nullptr;
    }

    void* library_ = nullptr;
    nvinfer1::IPluginRegistry* registry_ = nullptr;
};

TEST_F(LibraryV2Test, CarriesAttributesFromTheParserThroughTheEngine) {
    for (const char* const space : {"pagdeploy", ""}) {
        ASSERT_NE(creator("PAGGate", space), nullptr) << space;
        auto* const conv = creator("PerforatedConv", space);
        ASSERT_NE(conv, nullptr) << space;
        const ConvExample<Half> example(2, 16, 24);
        const nvinfer1::PluginFieldCollection parsed = example.collection();
        nvinfer1::IPluginV2* const plugin = conv->createPlugin("conv", &parsed);
        ASSERT_NE(plugin, nullptr);
        std::vector<char> engine(plugin->getSerializationSize());
        plugin->serialize(engine.data());
        plugin->destroy();
        nvinfer1::IPluginV2* const restored =
            conv->deserializePlugin("conv", engine.data(), engine.size());
        ASSERT_NE(restored, nullptr);
        nvinfer1::IPluginV2* const copy = restored->clone();
        ASSERT_NE(copy, nullptr);
        std::vector<char> again(copy->getSerializationSize());
        copy->serialize(again.data());
        EXPECT_EQ(engine, again);
        copy->destroy();
        restored->destroy();
        EXPECT_EQ(conv->deserializePlugin("conv", engine.data(), engine.size() - 1), nullptr);
        const nvinfer1::PluginFieldCollection none{0, nullptr};
        EXPECT_EQ(conv->createPlugin("conv", &none), nullptr);  // kernel_shape is required
    }
}

}  // namespace
}  // namespace pagdeploy::testing

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s LIBRARY [libnvinfer.so.8]\n", argv[0]);
        return 2;
    }
    pagdeploy::testing::libraryPath = argv[1];
    pagdeploy::testing::runtimePath = argc > 2 ? argv[2] : nullptr;
    return RUN_ALL_TESTS();
}

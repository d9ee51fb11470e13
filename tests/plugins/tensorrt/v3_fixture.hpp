// The V3 plugins of this program and a host for them: creators, a logger, calls with data.
#pragma once

#include <gtest/gtest.h>

#include "failing_new.hpp"
#include "fake_tensorrt.hpp"
#include "v3_calls.hpp"

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count);
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

namespace pagdeploy::testing {

class PluginV3Test : public ::testing::Test {
protected:
    void SetUp() override {
        fakeSetMajorVersion(NV_TENSORRT_MAJOR);
        fakeSetLoggerPresent(true);
        fakeTakeMessages();
        setLoggerFinder(fakeLoggerFinder());
    }
    void TearDown() override {
        failAllocation(-1);
        setLoggerFinder(nullptr);
    }

    static IPluginCreatorV3One* creator(const std::string& name,
                                        const std::string& pluginNamespace = "pagdeploy") {
        std::int32_t count = 0;
        auto* const* const creators = getCreators(count);
        for (std::int32_t i = 0; i < count; ++i) {
            auto* const candidate = static_cast<IPluginCreatorV3One*>(creators[i]);
            if (candidate->getPluginName() == name &&
                candidate->getPluginNamespace() == pluginNamespace) {
                return candidate;
            }
        }
        return nullptr;
    }

    template <typename Element>
    static std::unique_ptr<IPluginV3> create(const ConvExample<Element>& example,
                                             TensorRTPhase phase = TensorRTPhase::kBUILD) {
        const PluginFieldCollection fields = example.collection();
        return std::unique_ptr<IPluginV3>(
            creator("PerforatedConv")->createPlugin("conv", &fields, phase));
    }

    template <typename Element>
    static std::int32_t configure(IPluginV3& plugin, const ConvExample<Element>& example) {
        const auto descs = dynamicDescs(example);
        return buildOf(&plugin)->configurePlugin(descs.data(), 5, descs.data() + 5, 1);
    }

    template <typename Element>
    static std::int32_t enqueue(IPluginV3& context, ConvExample<Element>& example) {
        auto descs = exactDescs(example);
        const auto dynamic = dynamicDescs(example);
        Buffer workspace(
            buildOf(&context)->getWorkspaceSize(dynamic.data(), 5, dynamic.data() + 5, 1));
        auto inputs = example.inputs();
        void* output = example.y.data();
        return runtimeOf(&context)->enqueue(descs.data(), descs.data() + 5, inputs.data(),
                                            &output, workspace.data(), nullptr);
    }
};

}  // namespace pagdeploy::testing

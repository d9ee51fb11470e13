// Any op as a plugin of TensorRT 10 and 11. The op's core decides; this file only translates.
#pragma once

#include <string>

#include "common/descriptors.hpp"
#include "common/log.hpp"

#if PAG_TENSORRT_V3

namespace pagdeploy {

template <typename Op>
class PluginV3 final : public nvinfer1::IPluginV3,
                       public nvinfer1::IPluginV3OneCore,
                       public nvinfer1::IPluginV3OneBuild,
                       public nvinfer1::IPluginV3OneRuntime {
public:
    using Attributes = typename Op::Attributes;
    using Dynamic = nvinfer1::DynamicPluginTensorDesc;
    using Desc = nvinfer1::PluginTensorDesc;
    using Descriptors = pagdeploy::Descriptors<Op>;

    // `pluginNamespace` outlives every plugin: it is one of kPluginNamespaces.
    PluginV3(Attributes attributes, const char* pluginNamespace)
        : attributes_(std::move(attributes)),
          namespace_(pluginNamespace),
          fields_(pluginFields(fieldsOf<Op>(attributes_))),
          collection_{static_cast<std::int32_t>(fields_.size()), fields_.data()},
          timingCacheId_(textOfAttributes<Op>(attributes_)) {}

    PluginV3(const PluginV3&) = delete;  // fields_ points into attributes_
    PluginV3& operator=(const PluginV3&) = delete;

    // --- IPluginV3

    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override {
        switch (type) {
            case nvinfer1::PluginCapabilityType::kCORE:
                return static_cast<nvinfer1::IPluginV3OneCore*>(this);
            case nvinfer1::PluginCapabilityType::kBUILD:
                return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
            case nvinfer1::PluginCapabilityType::kRUNTIME:
                return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    nvinfer1::IPluginV3* clone() noexcept override {
        return guarded<nvinfer1::IPluginV3*>(
            Op::kName, "clone", nullptr, [&] { return new PluginV3(attributes_, namespace_); });
    }

    // --- IPluginV3OneCore

    const char* getPluginName() const noexcept override { return Op::kName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return namespace_; }

    // --- IPluginV3OneBuild

    std::int32_t getNbOutputs() const noexcept override { return 1; }

    std::int32_t getOutputDataTypes(nvinfer1::DataType* outputs, std::int32_t outputCount,
                                    const nvinfer1::DataType* inputs,
                                    std::int32_t inputCount) const noexcept override {
        return guarded(Op::kName, "getOutputDataTypes", kFailure, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            outputs[0] = Descriptors::outputType(inputs);
            return kSuccess;
        });
    }

    std::int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t inputCount,
                                 const nvinfer1::DimsExprs*, std::int32_t,
                                 nvinfer1::DimsExprs* outputs, std::int32_t outputCount,
                                 nvinfer1::IExprBuilder& builder) noexcept override {
        return guarded(Op::kName, "getOutputShapes", kFailure, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            outputs[0] = Descriptors::outputShape(attributes_, inputs, builder);
            return kSuccess;
        });
    }

    bool supportsFormatCombination(std::int32_t position, const Dynamic* tensors,
                                   std::int32_t inputCount,
                                   std::int32_t outputCount) noexcept override {
        return guarded(Op::kName, "supportsFormatCombination", false, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            return Descriptors::supports(position, tensors);
        });
    }

    std::int32_t configurePlugin(const Dynamic* inputs, std::int32_t inputCount,
                                 const Dynamic* outputs,
                                 std::int32_t outputCount) noexcept override {
        return guarded(Op::kName, "configurePlugin", kFailure, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            Op::checkTensors(attributes_, Descriptors::known(inputs, outputs).data());
            Op::workspaceBytes(attributes_, Descriptors::largest(inputs, outputs).data());
            return kSuccess;
        });
    }

    std::size_t getWorkspaceSize(const Dynamic* inputs, std::int32_t inputCount,
                                 const Dynamic* outputs,
                                 std::int32_t outputCount) const noexcept override {
        return guarded(Op::kName, "getWorkspaceSize", std::size_t{0}, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            return Op::workspaceBytes(attributes_, Descriptors::largest(inputs, outputs).data());
        });
    }

    // Times may be reused for equal attributes; TensorRT adds shapes, types and formats itself.
    const char* getTimingCacheID() noexcept override { return timingCacheId_.c_str(); }

    // --- IPluginV3OneRuntime

    std::int32_t onShapeChange(const Desc* inputs, std::int32_t inputCount, const Desc* outputs,
                               std::int32_t outputCount) noexcept override {
        return guarded(Op::kName, "onShapeChange", kFailure, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            planned_.planFor(attributes_, Descriptors::exact(inputs, outputs));
            return kSuccess;
        });
    }

    std::int32_t enqueue(const Desc* inputDescs, const Desc* outputDescs,
                         const void* const* inputs, void* const* outputs, void* workspace,
                         cudaStream_t stream) noexcept override {
        return guarded(Op::kName, "enqueue", kFailure, [&] {
            const auto tensors = Descriptors::exact(inputDescs, outputDescs);
            if (const auto* const plan = planned_.planFor(attributes_, tensors)) {
                Op::enqueue(*plan, inputs, outputs, workspace, stream);
            }
            return kSuccess;
        });
    }

    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
        return clone();
    }

    const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
        return &collection_;
    }

private:
    static constexpr std::int32_t kSuccess = 0;
    static constexpr std::int32_t kFailure = -1;

    const Attributes attributes_;
    const char* const namespace_;
    const std::vector<nvinfer1::PluginField> fields_;
    const nvinfer1::PluginFieldCollection collection_;
    const std::string timingCacheId_;
    Planned<Op> planned_;
};

template <typename Op>
class CreatorV3 final : public nvinfer1::IPluginCreatorV3One {
public:
    explicit CreatorV3(const char* pluginNamespace)
        : namespace_(pluginNamespace),
          fields_(pluginFields(fieldsOf<Op>(defaults_))),
          collection_{static_cast<std::int32_t>(fields_.size()), fields_.data()} {}

    CreatorV3(const CreatorV3&) = delete;  // fields_ points into defaults_
    CreatorV3& operator=(const CreatorV3&) = delete;

    const char* getPluginName() const noexcept override { return Op::kName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return namespace_; }

    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override {
        return &collection_;
    }

    // The parser and an engine hand over the same fields, so the phase makes no difference.
    nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                      nvinfer1::TensorRTPhase) noexcept override {
        return guarded<nvinfer1::IPluginV3*>(Op::kName, "createPlugin", nullptr, [&] {
            return new PluginV3<Op>(attributesFrom<Op>(fieldViews(fields)), namespace_);
        });
    }

private:
    const typename Op::Attributes defaults_{};
    const char* const namespace_;
    const std::vector<nvinfer1::PluginField> fields_;
    const nvinfer1::PluginFieldCollection collection_;
};

}  // namespace pagdeploy

#endif

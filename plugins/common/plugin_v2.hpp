// Any op as a plugin of TensorRT 8.5 and 8.6 (JetPack). The op's core decides; this file only
// translates.
#pragma once

#include <memory>
#include <string>

#include "common/archive.hpp"
#include "common/descriptors.hpp"
#include "common/log.hpp"

#if !PAG_TENSORRT_V3

// TensorRT 8 announces the end of the interface that it still needs.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace pagdeploy {

template <typename Op>
class PluginV2 final : public nvinfer1::IPluginV2DynamicExt {
public:
    using Attributes = typename Op::Attributes;
    using Dynamic = nvinfer1::DynamicPluginTensorDesc;
    using Desc = nvinfer1::PluginTensorDesc;
    using Descriptors = pagdeploy::Descriptors<Op>;

    PluginV2(Attributes attributes, std::string pluginNamespace)
        : attributes_(std::move(attributes)),
          namespace_(std::move(pluginNamespace)),
          archive_(packAttributes<Op>(attributes_)) {}

    // --- IPluginV2

    const char* getPluginType() const noexcept override { return Op::kName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    std::int32_t getNbOutputs() const noexcept override { return 1; }
    void terminate() noexcept override {}
    std::size_t getSerializationSize() const noexcept override { return archive_.size(); }
    void destroy() noexcept override { delete this; }
    const char* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

    // configurePlugin() cannot fail; this is the first call after it that can.
    std::int32_t initialize() noexcept override { return refused_ ? kFailure : kSuccess; }

    void serialize(void* buffer) const noexcept override {
        std::memcpy(buffer, archive_.data(), archive_.size());
    }

    void setPluginNamespace(const char* pluginNamespace) noexcept override {
        guarded(Op::kName, "setPluginNamespace", false, [&] {
            namespace_ = pluginNamespace == nullptr ? "" : pluginNamespace;
            return true;
        });
    }

    // --- IPluginV2Ext

    nvinfer1::DataType getOutputDataType(std::int32_t, const nvinfer1::DataType* inputs,
                                         std::int32_t inputCount) const noexcept override {
        return guarded(Op::kName, "getOutputDataType", nvinfer1::DataType::kFLOAT, [&] {
            Descriptors::checkCounts(inputCount, 1);
            return Descriptors::outputType(inputs);
        });
    }

    // --- IPluginV2DynamicExt

    nvinfer1::IPluginV2DynamicExt* clone() const noexcept override {
        return guarded<nvinfer1::IPluginV2DynamicExt*>(Op::kName, "clone", nullptr, [&] {
            auto copy = std::make_unique<PluginV2>(attributes_, namespace_);
            copy->refused_ = refused_;
            return copy.release();
        });
    }

    nvinfer1::DimsExprs getOutputDimensions(std::int32_t, const nvinfer1::DimsExprs* inputs,
                                            std::int32_t inputCount,
                                            nvinfer1::IExprBuilder& builder) noexcept override {
        nvinfer1::DimsExprs invalid{};
        invalid.nbDims = -1;
        return guarded(Op::kName, "getOutputDimensions", invalid, [&] {
            Descriptors::checkCounts(inputCount, 1);
            return Descriptors::outputShape(attributes_, inputs, builder);
        });
    }

    bool supportsFormatCombination(std::int32_t position, const Desc* tensors,
                                   std::int32_t inputCount,
                                   std::int32_t outputCount) noexcept override {
        return guarded(Op::kName, "supportsFormatCombination", false, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            return Descriptors::supports(position, tensors);
        });
    }

    void configurePlugin(const Dynamic* inputs, std::int32_t inputCount, const Dynamic* outputs,
                         std::int32_t outputCount) noexcept override {
        refused_ = guarded(Op::kName, "configurePlugin", true, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            Op::checkTensors(attributes_, Descriptors::known(inputs, outputs).data());
            Op::workspaceBytes(attributes_, Descriptors::largest(inputs, outputs).data());
            return false;
        });
    }

    // The descriptors hold the largest sizes of the profile.
    std::size_t getWorkspaceSize(const Desc* inputs, std::int32_t inputCount, const Desc* outputs,
                                 std::int32_t outputCount) const noexcept override {
        return guarded(Op::kName, "getWorkspaceSize", std::size_t{0}, [&] {
            Descriptors::checkCounts(inputCount, outputCount);
            return Op::workspaceBytes(attributes_, Descriptors::exact(inputs, outputs).data());
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

private:
    static constexpr std::int32_t kSuccess = 0;
    static constexpr std::int32_t kFailure = -1;

    const Attributes attributes_;
    std::string namespace_;
    const std::vector<char> archive_;
    bool refused_ = false;
    Planned<Op> planned_;
};

template <typename Op>
class CreatorV2 final : public nvinfer1::IPluginCreator {
public:
    explicit CreatorV2(const char* pluginNamespace)
        : namespace_(pluginNamespace),
          fields_(pluginFields(fieldsOf<Op>(defaults_))),
          collection_{static_cast<std::int32_t>(fields_.size()), fields_.data()} {}

    CreatorV2(const CreatorV2&) = delete;  // fields_ points into defaults_
    CreatorV2& operator=(const CreatorV2&) = delete;

    const char* getPluginName() const noexcept override { return Op::kName; }
    const char* getPluginVersion() const noexcept override { return kPluginVersion; }
    const char* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

    const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override {
        return &collection_;
    }

    void setPluginNamespace(const char* pluginNamespace) noexcept override {
        guarded(Op::kName, "setPluginNamespace", false, [&] {
            namespace_ = pluginNamespace == nullptr ? "" : pluginNamespace;
            return true;
        });
    }

    nvinfer1::IPluginV2* createPlugin(
        const char*, const nvinfer1::PluginFieldCollection* fields) noexcept override {
        return guarded<nvinfer1::IPluginV2*>(Op::kName, "createPlugin", nullptr, [&] {
            return new PluginV2<Op>(attributesFrom<Op>(fieldViews(fields)), namespace_);
        });
    }

    nvinfer1::IPluginV2* deserializePlugin(const char*, const void* data,
                                           std::size_t size) noexcept override {
        return guarded<nvinfer1::IPluginV2*>(Op::kName, "deserializePlugin", nullptr, [&] {
            return new PluginV2<Op>(unpackAttributes<Op>(data, size), namespace_);
        });
    }

private:
    const typename Op::Attributes defaults_{};
    std::string namespace_;
    const std::vector<nvinfer1::PluginField> fields_;
    const nvinfer1::PluginFieldCollection collection_;
};

}  // namespace pagdeploy

#pragma GCC diagnostic pop

#endif

// The calls that TensorRT makes on a V3 plugin, with arguments made from an example.
#pragma once

#include "conv_example.hpp"
#include "fake_builder.hpp"

namespace pagdeploy::testing {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCreatorV3One;
using nvinfer1::IPluginV3;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorRTPhase;

template <typename Capability>
Capability* capability(IPluginV3* plugin, PluginCapabilityType type) {
    return static_cast<Capability*>(plugin->getCapabilityInterface(type));
}

inline nvinfer1::IPluginV3OneCore* coreOf(IPluginV3* plugin) {
    return capability<nvinfer1::IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
}
inline nvinfer1::IPluginV3OneBuild* buildOf(IPluginV3* plugin) {
    return capability<nvinfer1::IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
inline nvinfer1::IPluginV3OneRuntime* runtimeOf(IPluginV3* plugin) {
    return capability<nvinfer1::IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

// The fields that an engine would store, in memory of their own.
class StoredFields {
public:
    explicit StoredFields(const PluginFieldCollection& source) {
        for (std::int32_t i = 0; i < source.nbFields; ++i) {
            const PluginField& field = source.fields[i];
            const auto* const bytes = static_cast<const char*>(field.data);
            names_.push_back(std::make_unique<std::string>(field.name));
            data_.push_back(std::make_unique<std::vector<char>>(bytes, bytes + 4 * field.length));
            fields_.emplace_back(names_.back()->c_str(), data_.back()->data(), field.type,
                                 field.length);
        }
    }
    PluginFieldCollection collection() const {
        return {static_cast<std::int32_t>(fields_.size()), fields_.data()};
    }
    bool operator==(const StoredFields& other) const {
        bool same = fields_.size() == other.fields_.size();
        for (std::size_t i = 0; same && i < fields_.size(); ++i) {
            same = *names_[i] == *other.names_[i] && *data_[i] == *other.data_[i] &&
                   fields_[i].type == other.fields_[i].type;
        }
        return same;
    }

private:
    std::vector<std::unique_ptr<std::string>> names_;
    std::vector<std::unique_ptr<std::vector<char>>> data_;
    std::vector<PluginField> fields_;
};

// Descriptors of a network whose N, H and W change between half and twice the example's.
template <typename Element>
std::vector<DynamicPluginTensorDesc> dynamicDescs(const ConvExample<Element>& example) {
    std::vector<DynamicPluginTensorDesc> descs(6);
    for (int i = 0; i < 6; ++i) {
        const nvinfer1::Dims dims = dimsOf(example.shapes[i]);
        descs[i].desc = example.desc(i);
        descs[i].min = descs[i].opt = descs[i].max = dims;
        if (i == 2 || i == 3) {
            continue;
        }
        for (const int axis : {0, 2, 3}) {
            const TrtSize size = dims.d[axis];
            descs[i].desc.dims.d[axis] = -1;
            descs[i].min.d[axis] = (size + 1) / 2;
            descs[i].max.d[axis] = 2 * size;
        }
    }
    return descs;
}

template <typename Element>
std::vector<PluginTensorDesc> exactDescs(const ConvExample<Element>& example) {
    std::vector<PluginTensorDesc> descs;
    for (int i = 0; i < 6; ++i) {
        descs.push_back(example.desc(i));
    }
    return descs;
}

// Sizes as expressions: symbols for N, H, W of feature maps, constants for the rest.
template <typename Element>
std::vector<nvinfer1::DimsExprs> expressions(const ConvExample<Element>& example,
                                             FakeBuilder& builder) {
    std::vector<nvinfer1::DimsExprs> inputs(5);
    for (int i = 0; i < 5; ++i) {
        const auto& sizes = example.shapes[i];
        inputs[i].nbDims = static_cast<std::int32_t>(sizes.size());
        for (int axis = 0; axis < inputs[i].nbDims; ++axis) {
            const bool dynamic = i != 2 && i != 3 && axis != 1;
            inputs[i].d[axis] =
                dynamic ? builder.symbol(sizes[axis]) : builder.known(sizes[axis]);
        }
    }
    return inputs;
}

// Walks through all types and layouts of all positions as the builder does, with later positions
// poisoned; returns how many combinations are supported.
template <typename Call>
int countCombinations(std::vector<DynamicPluginTensorDesc>& tensors, std::size_t position,
                      Call&& supports) {
    using nvinfer1::DataType;
    using nvinfer1::TensorFormat;
    if (position == tensors.size()) {
        return 1;
    }
    int count = 0;
    for (const auto format : {TensorFormat::kLINEAR, TensorFormat::kCHW32, TensorFormat::kHWC8,
                              TensorFormat::kHWC, TensorFormat::kCHW4}) {
        for (const auto type : {DataType::kFLOAT, DataType::kHALF, DataType::kINT8,
                                DataType::kINT32, DataType::kBOOL}) {
            tensors[position].desc.format = format;
            tensors[position].desc.type = type;
            if (supports(static_cast<std::int32_t>(position))) {
                count += countCombinations(tensors, position + 1, supports);
            }
            tensors[position].desc.type = static_cast<DataType>(99);
            tensors[position].desc.format = static_cast<TensorFormat>(99);
        }
    }
    return count;
}

}  // namespace pagdeploy::testing

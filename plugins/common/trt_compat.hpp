// What differs between TensorRT 8.5, 8.6, 10 and 11, and TensorRT's words in ours.
#pragma once

#include <NvInferRuntime.h>
#include <NvInferVersion.h>

#include <type_traits>

#include "common/fields.hpp"
#include "common/output_shape.hpp"

// IPluginV3 came with 10; before it there is IPluginV2DynamicExt.
#define PAG_TENSORRT_V3 (NV_TENSORRT_MAJOR >= 10)
// 8.5 cannot load libraries through its registry, so it has nobody who would look for a logger.
#define PAG_TENSORRT_HAS_LOGGER_FINDER \
    (NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6))

namespace pagdeploy {

constexpr const char* kPluginVersion = "1";

// A creator is registered under each of these. Nodes that say plugin_namespace="pagdeploy" find
// the first; the second serves nodes that say nothing, which TensorRT before 10.10 looks up in
// the empty namespace only.
constexpr const char* kPluginNamespaces[] = {"pagdeploy", ""};

// int32_t up to TensorRT 9, int64_t from 10.
using TrtSize = std::remove_reference_t<decltype(nvinfer1::Dims{}.d[0])>;

inline TensorType typeOf(nvinfer1::DataType type) {
    switch (type) {
        case nvinfer1::DataType::kFLOAT:
            return TensorType::kFloat32;
        case nvinfer1::DataType::kHALF:
            return TensorType::kFloat16;
        case nvinfer1::DataType::kINT32:
            return TensorType::kInt32;
#if PAG_TENSORRT_V3
        case nvinfer1::DataType::kBF16:
            return TensorType::kBFloat16;
#endif
        default:
            return TensorType::kOther;
    }
}

inline nvinfer1::DataType trtType(TensorType type) {
    switch (type) {
        case TensorType::kFloat32:
            return nvinfer1::DataType::kFLOAT;
        case TensorType::kFloat16:
            return nvinfer1::DataType::kHALF;
        case TensorType::kInt32:
            return nvinfer1::DataType::kINT32;
#if PAG_TENSORRT_V3
        case TensorType::kBFloat16:
            return nvinfer1::DataType::kBF16;
#endif
        default:
            throw Refusal("a tensor has a type that this plugin does not know");
    }
}

inline TensorLayout layoutOf(nvinfer1::TensorFormat format) {
    switch (format) {
        case nvinfer1::TensorFormat::kLINEAR:
            return TensorLayout::kLinear;
        case nvinfer1::TensorFormat::kHWC:
            return TensorLayout::kNhwc;
        case nvinfer1::TensorFormat::kHWC8:
            return TensorLayout::kNhwc8;
        default:
            return TensorLayout::kOther;
    }
}

inline TensorShape shapeOf(const nvinfer1::Dims& dims) {
    TensorShape shape;
    PAG_CHECK(dims.nbDims >= 0 && dims.nbDims <= kMaxRank, "a tensor has no valid rank");
    shape.rank = dims.nbDims;
    for (int axis = 0; axis < dims.nbDims; ++axis) {
        shape.d[axis] = dims.d[axis] < 0 ? kUnknownSize : dims.d[axis];
    }
    return shape;
}

inline Tensor tensorOf(const nvinfer1::PluginTensorDesc& desc, const nvinfer1::Dims& dims) {
    return {typeOf(desc.type), layoutOf(desc.format), shapeOf(dims)};
}

inline Tensor tensorOf(const nvinfer1::PluginTensorDesc& desc) {
    return tensorOf(desc, desc.dims);
}

// Sizes that are the same in every shape of the profile are known even where the network's are not.
inline Tensor knownTensor(const nvinfer1::DynamicPluginTensorDesc& tensor) {
    Tensor known = tensorOf(tensor.desc);
    const bool comparable =
        tensor.min.nbDims == known.shape.rank && tensor.max.nbDims == known.shape.rank;
    for (int axis = 0; comparable && axis < known.shape.rank; ++axis) {
        if (known.shape.d[axis] < 0 && tensor.min.d[axis] == tensor.max.d[axis]) {
            known.shape.d[axis] = tensor.max.d[axis] < 0 ? kUnknownSize : tensor.max.d[axis];
        }
    }
    return known;
}

// Evaluates the rule for an output's sizes in TensorRT's expressions, which need not be constant.
inline nvinfer1::DimsExprs trtShape(const OutputShape& rule, const nvinfer1::DimsExprs* inputs,
                                    nvinfer1::IExprBuilder& builder) {
    using nvinfer1::DimensionOperation;
    nvinfer1::DimsExprs shape{};
    const auto constant = [&builder](std::int64_t value) {
        const nvinfer1::IDimensionExpr* made = builder.constant(static_cast<TrtSize>(value));
        PAG_CHECK(made != nullptr, "TensorRT could not make a constant");
        return made;
    };
    const auto apply = [&builder](DimensionOperation operation, const nvinfer1::IDimensionExpr* a,
                                  const nvinfer1::IDimensionExpr* b) {
        PAG_CHECK(a != nullptr && b != nullptr, "TensorRT gave no expression for a size");
        return builder.operation(operation, *a, *b);
    };
    shape.nbDims = rule.rank;
    for (int axis = 0; axis < rule.rank; ++axis) {
        const OutputSize& size = rule.d[axis];
        if (size.input < 0) {
            shape.d[axis] = constant(size.offset);
            continue;
        }
        const nvinfer1::IDimensionExpr* value = inputs[size.input].d[size.axis];
        if (size.offset != 0) {
            value = apply(DimensionOperation::kSUM, value, constant(size.offset));
        }
        if (size.divisor != 1) {
            value = apply(DimensionOperation::kFLOOR_DIV, value, constant(size.divisor));
        }
        PAG_CHECK(value != nullptr, "TensorRT gave no expression for a size");
        shape.d[axis] = value;
    }
    return shape;
}

inline FieldType fieldTypeOf(nvinfer1::PluginFieldType type) {
    return type == nvinfer1::PluginFieldType::kINT32     ? FieldType::kInt32
           : type == nvinfer1::PluginFieldType::kFLOAT32 ? FieldType::kFloat32
                                                         : FieldType::kOther;
}

inline std::vector<FieldView> fieldViews(const nvinfer1::PluginFieldCollection* collection) {
    PAG_CHECK(collection != nullptr && collection->nbFields >= 0 &&
                  (collection->nbFields == 0 || collection->fields != nullptr),
              "there is no list of attributes");
    std::vector<FieldView> views;
    for (std::int32_t i = 0; i < collection->nbFields; ++i) {
        const nvinfer1::PluginField& field = collection->fields[i];
        views.push_back({field.name, field.data, fieldTypeOf(field.type), field.length});
    }
    return views;
}

// The other direction: what a creator announces and a plugin stores. The views' data is borrowed.
inline std::vector<nvinfer1::PluginField> pluginFields(const std::vector<FieldView>& views) {
    std::vector<nvinfer1::PluginField> fields;
    for (const FieldView& view : views) {
        const auto type = view.type == FieldType::kFloat32 ? nvinfer1::PluginFieldType::kFLOAT32
                                                           : nvinfer1::PluginFieldType::kINT32;
        fields.emplace_back(view.name, view.data, type, view.length);
    }
    return fields;
}

}  // namespace pagdeploy

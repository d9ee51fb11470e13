// A tensor as a plugin sees it before there is data: type, layout and sizes, in our own words.
#pragma once

#include <cstdint>
#include <string>

namespace pagdeploy {

enum class TensorType { kFloat32, kFloat16, kBFloat16, kInt32, kOther };

// kNhwc8 is channels-last with the channels padded to a multiple of eight.
enum class TensorLayout { kLinear, kNhwc, kNhwc8, kOther };

constexpr std::int64_t kUnknownSize = -1;
constexpr int kMaxRank = 8;

struct TensorShape {
    int rank = 0;
    std::int64_t d[kMaxRank] = {};
};

struct Tensor {
    TensorType type = TensorType::kOther;
    TensorLayout layout = TensorLayout::kOther;
    TensorShape shape;
};

// "2x64x?x91"; a question mark for a size that is not known yet.
inline std::string textOf(const TensorShape& shape) {
    std::string text;
    for (int axis = 0; axis < shape.rank; ++axis) {
        const std::int64_t size = shape.d[axis];
        text += (axis == 0 ? "" : "x") + (size < 0 ? std::string("?") : std::to_string(size));
    }
    return text.empty() ? "scalar" : text;
}

// Both are known and differ: the only case that may be refused before all sizes are known.
constexpr bool contradict(std::int64_t a, std::int64_t b) { return a >= 0 && b >= 0 && a != b; }

constexpr bool isFloat(TensorType type) {
    return type == TensorType::kFloat32 || type == TensorType::kFloat16 ||
           type == TensorType::kBFloat16;
}

// The channels-last layout that TensorRT has for a type: padded to eight for 16-bit types only.
constexpr TensorLayout channelsLast(TensorType type) {
    return type == TensorType::kFloat32 ? TensorLayout::kNhwc : TensorLayout::kNhwc8;
}

}  // namespace pagdeploy

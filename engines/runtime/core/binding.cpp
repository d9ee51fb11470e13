#include "core/binding.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "dtype.hpp"

namespace pagdeploy::runtime {

namespace {

std::string nameOf(std::int32_t dtype) {
    for (const NamedDtype& known : kDtypes) {
        if (known.dtype == dtype) {
            return known.name;
        }
    }
    return "dtype " + std::to_string(dtype);
}

template <class T>
void storeAs(double value, void* to) {
    const T converted = static_cast<T>(value);
    std::memcpy(to, &converted, sizeof converted);
}

}  // namespace

Problem misuse(std::string message, std::string remedy) {
    return {PAG_USAGE, std::move(message), std::move(remedy)};
}

std::size_t indexOf(const std::vector<TensorSpec>& tensors, const char* name, const char* kind) {
    std::string known;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        if (name != nullptr && tensors[i].name == name) {
            return i;
        }
        known += (i == 0 ? "" : ", ") + tensors[i].name;
    }
    throw misuse(std::string("There is no ") + kind + " '" + (name == nullptr ? "" : name) + "'.",
                 std::string("Choose one of: ") + known + ".");
}

std::string textOf(const std::int64_t* shape, std::size_t rank) {
    std::string text = "(";
    for (std::size_t axis = 0; axis < rank; ++axis) {
        text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
    }
    return text + ")";
}

std::string textOf(const TensorSpec& tensor) {
    std::string text = "(";
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
        const bool dynamic = tensor.shape[axis] < 0;
        text += (axis == 0 ? "" : ", ") +
                (dynamic ? tensor.dimNames[axis] : std::to_string(tensor.shape[axis]));
    }
    return text + ")";
}

bool takes(const TensorSpec& tensor, const std::int64_t* shape, std::size_t rank) {
    if (rank != tensor.shape.size()) {
        return false;
    }
    for (std::size_t axis = 0; axis < rank; ++axis) {
        if (shape[axis] < 0 || (tensor.shape[axis] >= 0 && shape[axis] != tensor.shape[axis])) {
            return false;
        }
    }
    return true;
}

std::size_t bytesOf(const TensorSpec& tensor, const std::int64_t* shape) {
    std::size_t bytes = elementBytes(tensor.dtype);
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
        const auto size = static_cast<std::size_t>(shape[axis]);
        if (size != 0 && bytes > std::numeric_limits<std::size_t>::max() / 2 / size) {
            throw misuse("'" + tensor.name + "' would not fit into memory.",
                         "Give a smaller shape.");
        }
        bytes *= size;
    }
    return bytes;
}

void requireKind(const TensorSpec& tensor, std::int32_t dtype, std::int32_t memory, bool isOnCpu) {
    if (dtype != tensor.dtype) {
        throw misuse("'" + tensor.name + "' is " + nameOf(tensor.dtype) + ", and " + nameOf(dtype) +
                         " is bound.",
                     "Convert it before.");
    }
    if (memory != PAG_HOST && memory != PAG_DEVICE) {
        throw misuse("The memory of '" + tensor.name + "' is of kind " + std::to_string(memory) + ".",
                     "Say PAG_HOST or PAG_DEVICE.");
    }
    if (memory == PAG_DEVICE && isOnCpu) {
        throw misuse("'" + tensor.name + "' is bound to device memory, and the engine runs on the CPU.",
                     "Bind host memory.");
    }
}

// Kernels read whole elements; what lies across their borders is undefined, or a trap.
void requireAligned(const TensorSpec& tensor, const void* data) {
    const std::size_t alignment = elementBytes(tensor.dtype);
    if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0) {
        throw misuse("The memory of '" + tensor.name + "' does not begin at a multiple of " +
                         std::to_string(alignment) + " bytes.",
                     "Bind memory that is aligned for its dtype.");
    }
}

void storeScalar(const TensorSpec& tensor, double value, void* to) {
    const bool whole = value == std::floor(value) && std::fabs(value) < 2147483648.0;
    switch (tensor.dtype) {
        case PAG_FLOAT32:
            if (std::isfinite(value) && std::fabs(value) > std::numeric_limits<float>::max()) {
                break;
            }
            return storeAs<float>(value, to);
        case PAG_FLOAT64:
            return storeAs<double>(value, to);
        case PAG_INT32:
        case PAG_INT64:
            if (whole) {
                return tensor.dtype == PAG_INT32 ? storeAs<std::int32_t>(value, to)
                                                 : storeAs<std::int64_t>(value, to);
            }
            break;
        default:
            break;
    }
    throw misuse("The input '" + tensor.name + "' does not take the number " + std::to_string(value) + ".",
                 "Bind memory of its own dtype with pag_context_bind_input.");
}

}  // namespace pagdeploy::runtime

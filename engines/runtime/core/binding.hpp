// Whether what a caller binds to an input or output is what the model takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/manifest.hpp"
#include "core/problem.hpp"

namespace pagdeploy::runtime {

// A call that is wrong.
Problem misuse(std::string message, std::string remedy);

// Where the tensor of that name is; throws Problem where there is none. `kind` is what to call them.
std::size_t indexOf(const std::vector<TensorSpec>& tensors, const char* name, const char* kind);

// A shape as text, such as "(1, 3, h, w)".
std::string textOf(const std::int64_t* shape, std::size_t rank);
std::string textOf(const TensorSpec& tensor);

// Whether a shape is one of the tensor's.
bool takes(const TensorSpec& tensor, const std::int64_t* shape, std::size_t rank);

// Bytes of a tensor of that shape; throws Problem where no memory could hold them.
std::size_t bytesOf(const TensorSpec& tensor, const std::int64_t* shape);

// Throw Problem where memory is of another dtype or kind, or not aligned to its elements.
void requireKind(const TensorSpec& tensor, std::int32_t dtype, std::int32_t memory, bool isOnCpu);
void requireAligned(const TensorSpec& tensor, const void* data);

// Writes a number as one element; throws Problem where the dtype does not hold it.
void storeScalar(const TensorSpec& tensor, double value, void* to);

}  // namespace pagdeploy::runtime

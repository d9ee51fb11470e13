// Models are read before onnxruntime sees them: it opens whatever file a tensor names.
#pragma once

#include <cstddef>

namespace pagdeploy::runtime {

// Throws Refusal where a serialized ModelProto keeps a tensor outside of itself, wherever in it that
// may be, or is no such message. Versions of onnxruntime differ in what they do about such a tensor:
// some read any path, from the working directory on, and one tag of theirs stands for an address in
// this process.
void requireSelfContained(const void* model, std::size_t bytes);

}  // namespace pagdeploy::runtime

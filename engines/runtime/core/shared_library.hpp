// A library that is opened while the program runs.
#pragma once

#include <filesystem>
#include <string>

namespace pagdeploy::runtime {

// The address of a symbol; throws Problem where the library cannot be opened or lacks it. What is
// opened stays: onnxruntime and TensorRT keep threads and registries that outlive any handle.
void* symbolOf(const std::filesystem::path& library, const char* symbol);

// The folder of the library that holds this function.
std::filesystem::path folderOfThisLibrary();

}  // namespace pagdeploy::runtime

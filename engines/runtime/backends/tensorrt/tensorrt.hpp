// TensorRT, opened when it is needed: one library of one major version in a process.
#pragma once

#include <NvInferRuntime.h>
#include <NvInferVersion.h>

#include <array>
#include <mutex>
#include <string>

#include "backends/border.hpp"

#if NV_TENSORRT_MAJOR * 10 + NV_TENSORRT_MINOR < 86
#error "the back end needs TensorRT 8.6 or later: 8.5 loads no plugin library through its registry"
#endif

namespace pagdeploy::runtime {

// Tells the caller's log, and keeps the first error to put behind a sentence of ours.
class TensorRtLog final : public nvinfer1::ILogger {
public:
    TensorRtLog(pag_log log, void* user) : log_(log), user_(user) {}

    void log(Severity severity, const char* message) noexcept override;
    // " (what TensorRT said first)", or nothing; the next failure begins anew.
    std::string takeCause();

private:
    pag_log log_;
    void* user_;
    std::mutex mutex_;
    std::string firstError_;
};

// Of the library that is open, as major, minor and patch.
std::array<int, 3> tensorRtVersion();

// Opens libnvinfer, or the library of that name, once for all engines of the process.
void openTensorRt(const char* path);

// The entry points; valid after openTensorRt.
nvinfer1::IRuntime* makeRuntime(nvinfer1::ILogger& log);

// Registers the plugins of a library, once.
void loadPlugins(const char* path, TensorRtLog& log);

}  // namespace pagdeploy::runtime

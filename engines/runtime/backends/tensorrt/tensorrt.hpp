// TensorRT, opened when it is needed: one library of one major version in a process.
#pragma once

#include <NvInferRuntime.h>
#include <NvInferVersion.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>

#include "backends/border.hpp"

#if NV_TENSORRT_MAJOR * 10 + NV_TENSORRT_MINOR < 86
#error "the back end needs TensorRT 8.6 or later: 8.5 loads no plugin library through its registry"
#endif

namespace pagdeploy::runtime {

// Tells the caller's log, and keeps the first error to put behind a sentence of ours. TensorRT keeps
// the first logger of a process for its global functions, so none is ever destroyed: lend() hands out
// one that has become free, and what reports to it after its return is heard by nobody.
class TensorRtLog final : public nvinfer1::ILogger {
public:
    struct Return {
        void operator()(TensorRtLog* log) const { log->retire(); }
    };
    using Loan = std::unique_ptr<TensorRtLog, Return>;
    static Loan lend(pag_log log, void* user);

    void log(Severity severity, const char* message) noexcept override;
    // " (what TensorRT said first)", or nothing; the next failure begins anew.
    std::string takeCause();

private:
    void retire();

    std::recursive_mutex mutex_;  // a callback may make TensorRT speak again
    pag_log log_ = nullptr;       // null: free
    void* user_ = nullptr;
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

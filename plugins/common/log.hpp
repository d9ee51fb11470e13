// Messages to the logger of the TensorRT that loaded us, and the boundary that no exception
// crosses.
#pragma once

#include <NvInferRuntime.h>

#include <utility>

#include "common/trt_compat.hpp"

namespace pagdeploy {

#if PAG_TENSORRT_HAS_LOGGER_FINDER
// Keeps the finder if it belongs to the major version that this library was built for: the class
// changed its layout in TensorRT 11, and calling across that line crashes. Null forgets it.
void keepLoggerFinder(nvinfer1::ILoggerFinder* finder) noexcept;
#endif

// One line at severity error: "pagdeploy: PerforatedConv.createPlugin: what went wrong". Lost if
// the host has no logger, as on a machine without a GPU.
void logError(const char* op, const char* call, const char* text) noexcept;

// Logs the exception that is being handled.
void logCurrentException(const char* op, const char* call) noexcept;

// Runs the body of a function that TensorRT calls. Whatever goes wrong inside becomes one log line
// and the value that this function returns on failure; it never ends the host's process.
template <typename Result, typename Body>
Result guarded(const char* op, const char* call, Result failure, Body&& body) noexcept {
    try {
        return std::forward<Body>(body)();
    } catch (...) {
        logCurrentException(op, call);
        return failure;
    }
}

}  // namespace pagdeploy

// onnxruntime's C API, found when it is needed, and handles that release themselves.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>

#include "backends/border.hpp"

namespace pagdeploy::runtime {

// Opens the library, once for all engines of the process. Throws Refusal.
void openOnnxRuntime(const char* path);

// The functions and the version of the library that was opened.
const OrtApi& ort();
const std::string& ortVersion();

// Throws Refusal for a status that says what failed.
void check(OrtStatus* status, pag_status kind, const std::string& what, const char* remedy);

struct OrtDelete {
    void operator()(OrtEnv* handle) const { ort().ReleaseEnv(handle); }
    void operator()(OrtSession* handle) const { ort().ReleaseSession(handle); }
    void operator()(OrtSessionOptions* handle) const { ort().ReleaseSessionOptions(handle); }
    void operator()(OrtMemoryInfo* handle) const { ort().ReleaseMemoryInfo(handle); }
    void operator()(OrtValue* handle) const { ort().ReleaseValue(handle); }
    void operator()(OrtTypeInfo* handle) const { ort().ReleaseTypeInfo(handle); }
    void operator()(OrtTensorTypeAndShapeInfo* handle) const {
        ort().ReleaseTensorTypeAndShapeInfo(handle);
    }
    void operator()(OrtCUDAProviderOptionsV2* handle) const {
        ort().ReleaseCUDAProviderOptions(handle);
    }
};

template <class T>
using OrtHandle = std::unique_ptr<T, OrtDelete>;

}  // namespace pagdeploy::runtime

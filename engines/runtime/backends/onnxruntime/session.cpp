#include "backends/onnxruntime/session.hpp"

#include <dlfcn.h>

#include <cstring>
#include <mutex>

#include "backends/onnxruntime/self_contained.hpp"

namespace pagdeploy::runtime {

namespace {

constexpr auto kFatalOnly = ORT_LOGGING_LEVEL_FATAL;
constexpr auto kRebuild = "Check the bundle with 'pagdeploy verify', or update onnxruntime.";

// One per process, never released: sessions of other threads may still end while the program does.
OrtEnv* environment() {
    static std::mutex making;
    static OrtEnv* env = nullptr;
    const std::lock_guard lock(making);
    if (env == nullptr) {
        check(ort().CreateEnv(kFatalOnly, "pagdeploy", &env), PAG_ENVIRONMENT,
              "onnxruntime cannot be started", "Install it again.");
    }
    return env;
}

void describesTensor(OrtTypeInfo* raw, const BackendTensor& tensor) {
    const OrtHandle<OrtTypeInfo> info(raw);
    const OrtTensorTypeAndShapeInfo* shape = nullptr;  // of the type info
    check(ort().CastTypeInfoToTensorInfo(info.get(), &shape), PAG_FAILED, "A type cannot be read",
          kRebuild);
    ONNXTensorElementDataType dtype = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::size_t rank = 0;
    if (shape != nullptr) {
        check(ort().GetTensorElementType(shape, &dtype), PAG_FAILED, "A dtype cannot be read", kRebuild);
        check(ort().GetDimensionsCount(shape, &rank), PAG_FAILED, "A rank cannot be read", kRebuild);
    }
    if (static_cast<std::int32_t>(dtype) != tensor.dtype ||
        static_cast<std::int32_t>(rank) != tensor.rank) {
        throw Refusal(PAG_INCOMPATIBLE,
                      std::string("The engine's '") + tensor.name + "' is not what the manifest says.",
                      "Build the bundle again.");
    }
}

}  // namespace

OrtEngine::OrtEngine(const BackendEngineSpec& spec)
    : isOnGpu_(std::strcmp(spec.flavour, "onnxruntime-cuda") == 0) {
    requireSelfContained(spec.engine_data, spec.engine_bytes);
    openOnnxRuntime(spec.runtime_library);
    runtime_ = "onnxruntime " + ortVersion();
    OrtMemoryInfo* info = nullptr;
    check(ort().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info), PAG_ENVIRONMENT,
          "onnxruntime cannot be started", "Install it again.");
    hostMemory_.reset(info);
    if (isOnGpu_) {
        check(ort().CreateMemoryInfo("Cuda", OrtDeviceAllocator, spec.device, OrtMemTypeDefault, &info),
              PAG_ENVIRONMENT, "onnxruntime cannot be started", "Install it again.");
        deviceMemory_.reset(info);
    }
    const OrtHandle<OrtSessionOptions> how = options(spec);
    OrtSession* session = nullptr;
    check(ort().CreateSessionFromArray(environment(), spec.engine_data, spec.engine_bytes, how.get(),
                                       &session),
          PAG_FAILED, runtime_ + " refuses the model", kRebuild);
    session_.reset(session);
    for (std::size_t i = 0; i < spec.input_count + spec.output_count; ++i) {
        const bool isInput = i < spec.input_count;
        const BackendTensor& tensor = isInput ? spec.inputs[i] : spec.outputs[i - spec.input_count];
        (isInput ? inputNames_ : outputNames_).push_back(tensor.name);
        dtypes_.push_back(static_cast<ONNXTensorElementDataType>(tensor.dtype));
    }
    requireTensors(spec);
}

OrtHandle<OrtSessionOptions> OrtEngine::options(const BackendEngineSpec& spec) const {
    OrtSessionOptions* raw = nullptr;
    check(ort().CreateSessionOptions(&raw), PAG_ENVIRONMENT, "onnxruntime cannot be started",
          "Install it again.");
    OrtHandle<OrtSessionOptions> options(raw);
    check(ort().SetSessionLogSeverityLevel(raw, kFatalOnly), PAG_FAILED, "An option is refused", kRebuild);
    check(ort().SetIntraOpNumThreads(raw, spec.threads), PAG_USAGE,
          "onnxruntime refuses " + std::to_string(spec.threads) + " threads",
          "Give 0, or a small positive number.");
    // Bytes that begin as onnxruntime's own format does would be read as that, unchecked.
    check(ort().AddSessionConfigEntry(raw, "session.load_model_format", "ONNX"), PAG_FAILED,
          "An option is refused", kRebuild);
    for (std::size_t i = 0; i < spec.library_count; ++i) {
        // What it registers lives as long as it is loaded, and each load makes it anew.
        dlopen(spec.libraries[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        check(ort().RegisterCustomOpsLibrary_V2(raw, spec.libraries[i]), PAG_ENVIRONMENT,
              std::string("The library ") + spec.libraries[i] + " cannot be used",
              "Build it again here (docs/plugins.md).");
    }
    if (isOnGpu_) {
        useCuda(raw, spec.device);
    }
    return options;
}

// Float32 means float32, and convolutions are chosen by timing them, as in Python.
void OrtEngine::useCuda(OrtSessionOptions* options, int device) const {
    constexpr auto kRemedy = "See what is missing with 'pagdeploy doctor'.";
    OrtCUDAProviderOptionsV2* raw = nullptr;
    check(ort().CreateCUDAProviderOptions(&raw), PAG_ENVIRONMENT, "CUDA cannot be set up", kRemedy);
    const OrtHandle<OrtCUDAProviderOptionsV2> cuda(raw);
    const std::string number = std::to_string(device);
    const char* const keys[] = {"device_id", "use_tf32", "cudnn_conv_algo_search"};
    const char* const values[] = {number.c_str(), "0", "EXHAUSTIVE"};
    check(ort().UpdateCUDAProviderOptions(raw, keys, values, 3), PAG_ENVIRONMENT,
          "CUDA cannot be set up", kRemedy);
    check(ort().SessionOptionsAppendExecutionProvider_CUDA_V2(options, raw), PAG_ENVIRONMENT,
          "onnxruntime could not start its CUDA provider", kRemedy);
}

// Buffers are cut to what the manifest says; a model that says otherwise must not write into them.
void OrtEngine::requireTensors(const BackendEngineSpec& spec) const {
    OrtAllocator* allocator = nullptr;
    check(ort().GetAllocatorWithDefaultOptions(&allocator), PAG_FAILED, "There is no allocator", kRebuild);
    const auto find = [&](bool isInput, const BackendTensor& tensor) {
        std::size_t count = 0;
        check(isInput ? ort().SessionGetInputCount(session(), &count)
                      : ort().SessionGetOutputCount(session(), &count),
              PAG_FAILED, "The tensors cannot be counted", kRebuild);
        for (std::size_t i = 0; i < count; ++i) {
            char* name = nullptr;
            check(isInput ? ort().SessionGetInputName(session(), i, allocator, &name)
                          : ort().SessionGetOutputName(session(), i, allocator, &name),
                  PAG_FAILED, "A name cannot be read", kRebuild);
            const bool found = std::strcmp(name, tensor.name) == 0;
            allocator->Free(allocator, name);
            if (!found) {
                continue;
            }
            OrtTypeInfo* info = nullptr;
            check(isInput ? ort().SessionGetInputTypeInfo(session(), i, &info)
                          : ort().SessionGetOutputTypeInfo(session(), i, &info),
                  PAG_FAILED, "A type cannot be read", kRebuild);
            return describesTensor(info, tensor);
        }
        throw Refusal(PAG_INCOMPATIBLE,
                      std::string("The engine has no '") + tensor.name + "', which the manifest lists.",
                      "Build the bundle again.");
    };
    for (std::size_t i = 0; i < spec.input_count; ++i) {
        find(true, spec.inputs[i]);
    }
    for (std::size_t i = 0; i < spec.output_count; ++i) {
        find(false, spec.outputs[i]);
    }
}

}  // namespace pagdeploy::runtime

// TensorRT, opened at run time: the runner is compiled against headers alone, and one binary serves
// every library of that major version, wherever it lies on LD_LIBRARY_PATH.
#pragma once

#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "support.hpp"

#if NV_TENSORRT_MAJOR * 10 + NV_TENSORRT_MINOR < 86
#error "the runner needs TensorRT 8.6 or later: 8.5 loads no plugin library through its registry"
#endif

class Logger final : public nvinfer1::ILogger {
public:
    bool verbose = false;

    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kERROR && firstError_.empty()) firstError_ = message;
        if (severity <= (verbose ? Severity::kVERBOSE : Severity::kWARNING)) {
            std::fprintf(stderr, "[TensorRT %d] %s\n", static_cast<int>(severity), message);
        }
    }
    // What TensorRT said first, to be put behind our own sentence.
    std::string cause() const { return firstError_.empty() ? "" : ": " + firstError_; }

private:
    std::string firstError_;
};

class TensorRt {
public:
    Logger logger;

    TensorRt(const std::vector<std::string>& plugins, bool verbose) {
        logger.verbose = verbose;
        const std::string major = std::to_string(NV_TENSORRT_MAJOR);
        nvinfer_ = open("libnvinfer.so." + major);
        const int found = versionOfLibrary() / (NV_TENSORRT_MAJOR >= 10 ? 10000 : 1000);
        if (found != NV_TENSORRT_MAJOR) {
            throw Failure("the runner is built for TensorRT " + major + ", the library is " +
                          std::to_string(found));
        }
        for (const std::string& path : plugins) {
            const auto find = symbol<decltype(&getPluginRegistry)>(nvinfer_, "getPluginRegistry");
            if (find()->loadLibrary(path.c_str()) == nullptr) {
                throw Failure("TensorRT refuses the plugin library " + path + logger.cause());
            }
        }
    }

    std::int32_t versionOfLibrary() const {
        return symbol<decltype(&getInferLibVersion)>(nvinfer_, "getInferLibVersion")();
    }

    std::unique_ptr<nvinfer1::IBuilder> builder() {
        return create<nvinfer1::IBuilder, decltype(&createInferBuilder_INTERNAL)>(
            nvinfer_, "createInferBuilder_INTERNAL", asLogger(), kVersion);
    }

    std::unique_ptr<nvinfer1::IRuntime> runtime() {
        return create<nvinfer1::IRuntime, decltype(&createInferRuntime_INTERNAL)>(
            nvinfer_, "createInferRuntime_INTERNAL", asLogger(), kVersion);
    }

    std::unique_ptr<nvonnxparser::IParser> parser(nvinfer1::INetworkDefinition& network) {
        void* library = open("libnvonnxparser.so." + std::to_string(NV_TENSORRT_MAJOR));
        return create<nvonnxparser::IParser, decltype(&createNvOnnxParser_INTERNAL)>(
            library, "createNvOnnxParser_INTERNAL", &network, asLogger(), NV_ONNX_PARSER_VERSION);
    }

private:
    static constexpr std::int32_t kVersion = static_cast<std::int32_t>(NV_TENSORRT_VERSION);
    void* nvinfer_ = nullptr;

    // These pointers travel as void*, so each must point to the very class that TensorRT expects.
    nvinfer1::ILogger* asLogger() { return &logger; }

    // Never closed: TensorRT's threads and static objects outlive any scope of ours.
    static void* open(const std::string& name) {
        void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);
        if (library == nullptr) throw Failure(dlerror());
        return library;
    }

    template <typename Function>
    static Function symbol(void* library, const char* name) {
        const auto found = reinterpret_cast<Function>(dlsym(library, name));
        if (found == nullptr) throw Failure(std::string("TensorRT has no ") + name);
        return found;
    }

    template <typename Object, typename Function, typename... Arguments>
    std::unique_ptr<Object> create(void* library, const char* name, Arguments... arguments) {
        void* made = symbol<Function>(library, name)(arguments...);
        if (made == nullptr) throw Failure(std::string(name) + " made nothing" + logger.cause());
        return std::unique_ptr<Object>(static_cast<Object*>(made));
    }
};

inline std::string shapeText(const nvinfer1::Dims& dims) {
    json::Node list('[');
    for (int i = 0; i < dims.nbDims; ++i) list.add(std::to_string(dims.d[i]));
    return list.str();
}

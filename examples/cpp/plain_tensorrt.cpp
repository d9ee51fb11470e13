// The plan of a bundle in TensorRT's own C++ API (10 or 11), without our runtime:
//
//     plain_tensorrt BUNDLE/engine.plan [BUNDLE/plugins/NAME.so...]
//
// Runs once on zeros, at the sizes of the first optimization profile. Objects go in the reverse order
// of their making, and the logger last: TensorRT keeps it.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

class Logger final : public nvinfer1::ILogger {
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kWARNING) {
            std::cerr << message << "\n";
        }
    }
} logger;

void require(bool holds, const std::string& what) {
    if (!holds) {
        throw std::runtime_error(what);
    }
}

// Memory of the GPU, filled with zeros.
struct Memory {
    explicit Memory(std::size_t bytes) {
        require(cudaMalloc(&data, bytes) == cudaSuccess, "There is no memory of the GPU left.");
        require(cudaMemset(data, 0, bytes) == cudaSuccess, "Memory of the GPU cannot be written.");
    }
    Memory(const Memory&) = delete;
    ~Memory() { cudaFree(data); }

    void* data = nullptr;
};

void run(int count, char** arguments) {
    const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
    require(runtime != nullptr, "TensorRT cannot be started.");
    for (int i = 2; i < count; ++i) {
        require(runtime->getPluginRegistry().loadLibrary(arguments[i]) != nullptr,
                std::string("TensorRT refuses the library ") + arguments[i] + ".");
    }
    std::ifstream file(arguments[1], std::ios::binary);
    const std::vector<char> plan{std::istreambuf_iterator<char>(file), {}};
    const std::unique_ptr<nvinfer1::ICudaEngine> engine(
        runtime->deserializeCudaEngine(plan.data(), plan.size()));
    require(engine != nullptr, "TensorRT refuses the plan.");
    const std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
    require(context != nullptr, "TensorRT makes no context.");

    std::map<std::string, std::unique_ptr<Memory>> memory;
    for (const auto wanted : {nvinfer1::TensorIOMode::kINPUT, nvinfer1::TensorIOMode::kOUTPUT}) {
        for (int i = 0; i < engine->getNbIOTensors(); ++i) {
            const char* const name = engine->getIOTensorName(i);
            if (engine->getTensorIOMode(name) != wanted) {
                continue;
            }
            if (wanted == nvinfer1::TensorIOMode::kINPUT) {
                const auto shape = engine->getProfileShape(name, 0, nvinfer1::OptProfileSelector::kOPT);
                require(context->setInputShape(name, shape), std::string("The shape of ") + name);
            }
            const nvinfer1::Dims shape = context->getTensorShape(name);
            std::size_t bytes = 8;  // no dtype is larger
            for (int axis = 0; axis < shape.nbDims; ++axis) {
                require(shape.d[axis] >= 0, std::string(name) + " has a size that only the run tells.");
                bytes *= static_cast<std::size_t>(shape.d[axis]);
            }
            memory[name] = std::make_unique<Memory>(bytes);
            require(context->setTensorAddress(name, memory[name]->data), std::string("The address of ") + name);
        }
    }
    cudaStream_t stream = nullptr;
    require(cudaStreamCreate(&stream) == cudaSuccess, "There is no stream.");
    const bool isDone = context->enqueueV3(stream) && cudaStreamSynchronize(stream) == cudaSuccess;
    cudaStreamDestroy(stream);
    require(isDone, "The engine failed.");
    std::cout << memory.size() << " tensors, one run\n";
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        std::cerr << "plain_tensorrt BUNDLE/engine.plan [PLUGINS.so...]\n";
        return 2;
    }
    try {
        run(count, arguments);
    } catch (const std::exception& failure) {
        std::cerr << failure.what() << "\n";
        return 1;
    }
    return 0;
}

#include "backends/tensorrt/runner.hpp"

#include <algorithm>

#include "backends/tensorrt/dims.hpp"

namespace pagdeploy::runtime {

Refusal tooSmall(const std::string& name, std::size_t needed) {
    return {PAG_USAGE, "The output '" + name + "' needs " + std::to_string(needed) + " bytes.",
            "Bind more, or none and read it with pag_context_output."};
}

TrtRunner::TrtRunner(TrtEngine& engine, const BackendContextSpec& spec)
    : engine_(engine),
      spec_(spec),
      inputBuffers_(engine.inputs().size()),
      context_(engine.makeContext()),
      hostBuffers_(engine.outputs().size()),
      tensors_(engine.outputs().size()) {
    const int profiles = engine.plan().getNbOptimizationProfiles();
    if (spec.profile < 0 || spec.profile > profiles) {
        throw Refusal(PAG_USAGE,
                      "There is no optimization profile " + std::to_string(spec.profile) + ".",
                      "Choose 0, or one of 1 to " + std::to_string(profiles) + ".");
    }
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
        allocators_.push_back(std::make_unique<OutputAllocator>());
    }
}

// Returns whether a copy may still read memory of the caller: what is pinned is copied later.
bool TrtRunner::upload(const Binding* inputs, cudaStream_t stream) {
    bool mayRead = false;
    for (std::size_t i = 0; i < engine_.inputs().size(); ++i) {
        const TrtEngine::Tensor& tensor = engine_.inputs()[i];
        if (inputs[i].memory == PAG_HOST && !tensor.isOnHost && inputs[i].bytes > 0) {
            checkCuda(cudaMemcpyAsync(inputBuffers_[i].data(), inputs[i].data, inputs[i].bytes,
                                      cudaMemcpyHostToDevice, stream),
                      "Copying an input to the GPU");
            // A scalar that the context keeps is not pinned.
            mayRead = mayRead || inputs[i].bytes > elementBytes(tensor.dtype);
        }
    }
    return mayRead;
}

void TrtRunner::enqueue(cudaStream_t stream) {
    if (!context_->enqueueV3(stream)) {
        throw Refusal(PAG_FAILED, "TensorRT could not be enqueued" + engine_.log().takeCause() + ".",
                      "See all that it says with a log.");
    }
}

void TrtRunner::run(const Binding* inputs, const Binding* outputs, bool rebound, cudaStream_t stream) {
    const UsedDevice device = engine_.useDevice();
    if (rebound || engine_.readsShapes()) {
        bind(inputs, outputs, stream);
    }
    const bool waits = upload(inputs, stream);
    if (graph_) {
        graph_.launch(stream);
    } else {
        enqueue(stream);
    }
    handOver(outputs, waits, stream);
}

void TrtRunner::capture(const Binding* inputs, const Binding* outputs, cudaStream_t stream) {
    if (stream == nullptr) {
        throw Refusal(PAG_USAGE, "The default stream cannot be recorded.", "Give a stream of your own.");
    }
    if (engine_.readsShapes()) {
        throw Refusal(PAG_USAGE, "The plan computes sizes from values of its inputs, which a graph fixes.",
                      "Use pag_context_run.");
    }
    for (std::size_t i = 0; i < engine_.inputs().size(); ++i) {
        const bool isScalar = inputs[i].bytes == elementBytes(engine_.inputs()[i].dtype);
        if (inputs[i].memory == PAG_HOST && !isScalar) {
            throw Refusal(PAG_USAGE,
                          "The input '" + engine_.inputs()[i].name + "' lies on the host, where a graph "
                          "cannot read it.",
                          "Bind device memory to it.");
        }
    }
    for (std::size_t i = 0; i < engine_.outputs().size(); ++i) {
        if (outputs[i].data == nullptr || outputs[i].memory == PAG_HOST) {
            throw Refusal(PAG_USAGE,
                          "The output '" + engine_.outputs()[i].name + "' is not bound to device memory.",
                          "Bind some before it is recorded.");
        }
    }
    const UsedDevice device = engine_.useDevice();
    // The first run behind a change of addresses may allocate, which a recording does not survive.
    run(inputs, outputs, true, stream);
    checkCuda(cudaStreamSynchronize(stream), "Running the engine before it is recorded");
    graph_.record(stream, [&] { enqueue(stream); });
    graph_.launch(stream);
}

void* TrtRunner::hostMemory(std::size_t index, const Binding& binding, std::size_t bytes) {
    if (binding.data != nullptr) {
        if (binding.bytes < bytes) {
            throw tooSmall(engine_.outputs()[index].name, bytes);
        }
        return binding.data;
    }
    if (spec_.allocate == nullptr) {
        hostBuffers_[index].resize(bytes);
        return hostBuffers_[index].data();
    }
    const char* const name = engine_.outputs()[index].name.c_str();
    void* const memory = spec_.allocate(spec_.allocate_user, name, bytes, PAG_HOST);
    if (memory == nullptr) {
        throw Refusal(PAG_ENVIRONMENT,
                      std::string("No memory was given for the output '") + name + "'.",
                      "Let pag_context_options.allocate return some.");
    }
    return memory;
}

// Waits only where something has to be known or copied before the caller can go on.
void TrtRunner::handOver(const Binding* outputs, bool waits, cudaStream_t stream) {
    bool isDone = false;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
        const TrtEngine::Tensor& tensor = engine_.outputs()[i];
        const OutputAllocator& allocator = *allocators_[i];
        const bool isGiven = outputs[i].data != nullptr && outputs[i].memory == PAG_DEVICE;
        if (!isDone && !isKnown(context_->getTensorShape(tensor.name.c_str()))) {
            checkCuda(cudaStreamSynchronize(stream), "Waiting for the size of an output");
            isDone = true;
            if (!isKnown(allocator.dims())) {
                throw Refusal(PAG_FAILED,
                              "TensorRT does not tell the size of the output '" + tensor.name + "'.",
                              "See all that it says with a log.");
            }
        }
        const nvinfer1::Dims& dims = allocator.dims();
        const std::size_t bytes = bytesOf(dims, tensor.dtype);
        pag_tensor result{};
        result.dtype = tensor.dtype;
        result.bytes = bytes;
        result.rank = dims.nbDims;
        std::copy_n(dims.d, dims.nbDims, result.shape);
        if (isGiven) {
            if (allocator.address() != outputs[i].data) {
                throw tooSmall(tensor.name, bytes);
            }
            result.data = outputs[i].data;
            result.memory = PAG_DEVICE;
        } else if (tensor.isOnHost) {
            result.data = allocator.address();
            result.memory = PAG_HOST;
            waits = true;
        } else {
            result.data = hostMemory(i, outputs[i], bytes);
            result.memory = PAG_HOST;
            if (bytes > 0) {
                checkCuda(cudaMemcpyAsync(result.data, allocator.address(), bytes, cudaMemcpyDeviceToHost,
                                          stream),
                          "Copying an output from the GPU");
            }
            waits = true;
        }
        tensors_[i] = result;
    }
    if (waits) {
        checkCuda(cudaStreamSynchronize(stream), "Running the engine");
    }
}

}  // namespace pagdeploy::runtime

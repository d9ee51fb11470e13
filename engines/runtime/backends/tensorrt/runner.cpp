#include "backends/tensorrt/runner.hpp"

#include <algorithm>

#include "dtype.hpp"

namespace pagdeploy::runtime {

namespace {

nvinfer1::Dims dimsOf(const Binding& binding) {
    nvinfer1::Dims dims{};
    dims.nbDims = binding.rank;
    std::copy_n(binding.shape, binding.rank, dims.d);
    return dims;
}

bool isKnown(const nvinfer1::Dims& dims) {
    return dims.nbDims >= 0 &&
           std::all_of(dims.d, dims.d + dims.nbDims, [](auto size) { return size >= 0; });
}

std::size_t bytesOf(const nvinfer1::Dims& dims, std::int32_t dtype) {
    std::size_t bytes = elementBytes(dtype);
    for (int axis = 0; axis < dims.nbDims; ++axis) {
        bytes *= static_cast<std::size_t>(dims.d[axis]);
    }
    return bytes;
}

Refusal tooSmall(const std::string& name, std::size_t needed) {
    return {PAG_USAGE, "The output '" + name + "' needs " + std::to_string(needed) + " bytes.",
            "Bind more, or none and read it with pag_context_output."};
}

}  // namespace

class TrtRunner::Allocator final : public nvinfer1::IOutputAllocator {
public:
    void give(void* data, std::size_t bytes) { given_ = data, givenBytes_ = data ? bytes : 0; }
    void* address() const { return address_; }
    const nvinfer1::Dims& dims() const { return dims_; }
    void settle(void* address, const nvinfer1::Dims& dims) { address_ = address, dims_ = dims; }
    void* own(std::size_t bytes) { return own_.atLeast(bytes); }

    // What exceeds the memory of the caller goes into ours, so that the run can end and say so.
    void* place(std::uint64_t bytes) noexcept {
        try {
            address_ = bytes <= givenBytes_ ? given_ : own_.atLeast(bytes);
        } catch (...) {
            address_ = nullptr;
        }
        return address_;
    }
#if NV_TENSORRT_MAJOR >= 10
    void* reallocateOutputAsync(char const*, void*, std::uint64_t bytes, std::uint64_t,
                                cudaStream_t) noexcept override {
        return place(bytes);
    }
#if NV_TENSORRT_MAJOR < 11
    void* reallocateOutput(char const*, void*, std::uint64_t bytes, std::uint64_t) noexcept override {
        return place(bytes);
    }
#endif
#else
    void* reallocateOutput(char const*, void*, std::uint64_t bytes, std::uint64_t) noexcept override {
        return place(bytes);
    }
#endif
    void notifyShape(char const*, nvinfer1::Dims const& dims) noexcept override { dims_ = dims; }

private:
    void* given_ = nullptr;
    std::size_t givenBytes_ = 0;
    void* address_ = nullptr;
    nvinfer1::Dims dims_{};
    DeviceBuffer own_;
};

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
        allocators_.push_back(std::make_unique<Allocator>());
    }
}

TrtRunner::~TrtRunner() = default;

bool TrtRunner::takes(int profile, const Binding* inputs) const {
    for (std::size_t i = 0; i < engine_.inputs().size(); ++i) {
        const TrtEngine::Tensor& tensor = engine_.inputs()[i];
        if (tensor.isShape) {
            continue;  // the profile bounds its values, which TensorRT checks
        }
        const auto bound = [&](nvinfer1::OptProfileSelector which) {
            return engine_.plan().getProfileShape(tensor.name.c_str(), profile, which);
        };
        const nvinfer1::Dims low = bound(nvinfer1::OptProfileSelector::kMIN);
        const nvinfer1::Dims high = bound(nvinfer1::OptProfileSelector::kMAX);
        for (int axis = 0; axis < inputs[i].rank; ++axis) {
            const std::int64_t size = inputs[i].shape[axis];
            if (low.nbDims == inputs[i].rank && (size < low.d[axis] || size > high.d[axis])) {
                return false;
            }
        }
    }
    return true;
}

void TrtRunner::chooseProfile(const Binding* inputs, cudaStream_t stream) {
    int chosen = spec_.profile - 1;
    for (int i = 0; chosen < 0 && i < engine_.plan().getNbOptimizationProfiles(); ++i) {
        chosen = takes(i, inputs) ? i : -1;
    }
    if (chosen < 0 || !takes(chosen, inputs)) {
        throw Refusal(PAG_USAGE, "The inputs lie outside of what the engine was built for.",
                      "See its profiles with 'pagdeploy inspect', and build with others for more.");
    }
    if (chosen == profile_) {
        return;
    }
    if (!context_->setOptimizationProfileAsync(chosen, stream)) {
        throw Refusal(PAG_FAILED, "TensorRT refuses the profile" + engine_.log().takeCause() + ".",
                      "Use one context for each profile.");
    }
    // What is enqueued with the old profile has to end before addresses change.
    checkCuda(cudaStreamSynchronize(stream), "Changing the profile");
    profile_ = chosen;
}

void TrtRunner::bindInput(std::size_t index, const Binding& binding) {
    const TrtEngine::Tensor& tensor = engine_.inputs()[index];
    if (tensor.isShape && binding.memory == PAG_DEVICE) {
        throw Refusal(PAG_USAGE,
                      "TensorRT reads the input '" + tensor.name + "' on the host, and it lies on the GPU.",
                      "Bind host memory to it.");
    }
    const bool isThere = tensor.isShape || binding.memory == PAG_DEVICE;
    void* const address = isThere ? binding.data : inputBuffers_[index].atLeast(binding.bytes);
    if (!context_->setInputShape(tensor.name.c_str(), dimsOf(binding)) ||
        !context_->setTensorAddress(tensor.name.c_str(), address)) {
        throw Refusal(PAG_USAGE,
                      "TensorRT refuses the input '" + tensor.name + "'" + engine_.log().takeCause() + ".",
                      "Give it the sizes and the alignment that the engine was built for.");
    }
}

void TrtRunner::bindOutput(std::size_t index, const Binding& binding) {
    const TrtEngine::Tensor& tensor = engine_.outputs()[index];
    const char* const name = tensor.name.c_str();
    Allocator& allocator = *allocators_[index];
    const bool isGiven = binding.data != nullptr && binding.memory == PAG_DEVICE;
    allocator.give(isGiven ? binding.data : nullptr, binding.bytes);
    const nvinfer1::Dims dims = context_->getTensorShape(name);
    bool accepted = false;
    if (isKnown(dims)) {
        const std::size_t needed = bytesOf(dims, tensor.dtype);
        if (isGiven && binding.bytes < needed) {
            throw tooSmall(tensor.name, needed);
        }
        void* const address = isGiven ? binding.data : allocator.own(needed);
        allocator.settle(address, dims);
        accepted = context_->setTensorAddress(name, address);
    } else {
        accepted = context_->setOutputAllocator(name, &allocator);
    }
    if (!accepted) {
        throw Refusal(PAG_USAGE,
                      "TensorRT refuses the output '" + tensor.name + "'" + engine_.log().takeCause() + ".",
                      "Give it the alignment that the engine was built for.");
    }
}

void TrtRunner::bind(const Binding* inputs, const Binding* outputs, cudaStream_t stream) {
    graph_.clear();
    chooseProfile(inputs, stream);
    for (std::size_t i = 0; i < engine_.inputs().size(); ++i) {
        bindInput(i, inputs[i]);
    }
    for (std::size_t i = 0; i < engine_.outputs().size(); ++i) {
        bindOutput(i, outputs[i]);
    }
}

void TrtRunner::upload(const Binding* inputs, cudaStream_t stream) {
    for (std::size_t i = 0; i < engine_.inputs().size(); ++i) {
        if (inputs[i].memory == PAG_HOST && !engine_.inputs()[i].isShape && inputs[i].bytes > 0) {
            checkCuda(cudaMemcpyAsync(inputBuffers_[i].data(), inputs[i].data, inputs[i].bytes,
                                      cudaMemcpyHostToDevice, stream),
                      "Copying an input to the GPU");
        }
    }
}

void TrtRunner::enqueue(cudaStream_t stream) {
    if (!context_->enqueueV3(stream)) {
        throw Refusal(PAG_FAILED, "TensorRT could not be enqueued" + engine_.log().takeCause() + ".",
                      "See all that it says with a log.");
    }
}

void TrtRunner::run(const Binding* inputs, const Binding* outputs, bool rebound, cudaStream_t stream) {
    engine_.useDevice();
    if (rebound || engine_.readsShapes()) {
        bind(inputs, outputs, stream);
    }
    upload(inputs, stream);
    if (graph_) {
        graph_.launch(stream);
    } else {
        enqueue(stream);
    }
    handOver(outputs, stream);
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
void TrtRunner::handOver(const Binding* outputs, cudaStream_t stream) {
    bool waits = false;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
        const TrtEngine::Tensor& tensor = engine_.outputs()[i];
        const Allocator& allocator = *allocators_[i];
        const bool isGiven = outputs[i].data != nullptr && outputs[i].memory == PAG_DEVICE;
        if (!isKnown(context_->getTensorShape(tensor.name.c_str())) && !waits) {
            checkCuda(cudaStreamSynchronize(stream), "Waiting for the size of an output");
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

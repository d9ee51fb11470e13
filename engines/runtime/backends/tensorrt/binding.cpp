// What is bound, as TensorRT wants it: a profile that takes the inputs, shapes and addresses.
#include <algorithm>
#include <cstdint>

#include "backends/tensorrt/dims.hpp"
#include "backends/tensorrt/runner.hpp"

namespace pagdeploy::runtime {

namespace {

constexpr std::uintptr_t kAlignment = 256;  // of device memory (IExecutionContext::setTensorAddress)
constexpr auto kSizesAndAlignment =
    "Give it the sizes that the engine was built for, and device memory at a multiple of 256 bytes.";

alignas(16) char nothing[16];  // an address where there are no elements

nvinfer1::Dims dimsOf(const Binding& binding) {
    nvinfer1::Dims dims{};
    dims.nbDims = binding.rank;
    std::copy_n(binding.shape, binding.rank, dims.d);
    return dims;
}

// TensorRT checks what it is given, and not what an allocator hands out.
bool isAligned(const void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory) % kAlignment == 0;
}

}  // namespace

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
    if (tensor.isOnHost && binding.memory == PAG_DEVICE) {
        throw Refusal(PAG_USAGE,
                      "TensorRT reads the input '" + tensor.name + "' on the host, and it lies on the GPU.",
                      "Bind host memory to it.");
    }
    // Also what has no elements needs an address.
    const bool isThere = binding.data != nullptr && (tensor.isOnHost || binding.memory == PAG_DEVICE);
    void* address = isThere ? binding.data : nullptr;
    if (address == nullptr) {
        address = tensor.isOnHost ? nothing : inputBuffers_[index].atLeast(binding.bytes);
    }
    if (!context_->setInputShape(tensor.name.c_str(), dimsOf(binding)) ||
        !context_->setTensorAddress(tensor.name.c_str(), address)) {
        throw Refusal(PAG_USAGE,
                      "TensorRT refuses the input '" + tensor.name + "'" + engine_.log().takeCause() + ".",
                      kSizesAndAlignment);
    }
}

void TrtRunner::bindOutput(std::size_t index, const Binding& binding) {
    const TrtEngine::Tensor& tensor = engine_.outputs()[index];
    const char* const name = tensor.name.c_str();
    OutputAllocator& allocator = *allocators_[index];
    const nvinfer1::Dims dims = context_->getTensorShape(name);
    const bool isGiven = binding.data != nullptr && binding.memory == PAG_DEVICE;
    if (tensor.isOnHost && isGiven) {
        throw Refusal(PAG_USAGE,
                      "TensorRT writes the output '" + tensor.name + "' on the host, and the memory that "
                      "is bound lies on the GPU.",
                      "Bind host memory to it, or none.");
    }
    allocator.give(isGiven ? binding.data : nullptr, isGiven ? binding.bytes : 0);
    bool accepted = false;
    if (isKnown(dims)) {
        const std::size_t needed = bytesOf(dims, tensor.dtype);
        if (isGiven && binding.bytes < needed) {
            throw tooSmall(tensor.name, needed);
        }
        void* address = isGiven ? binding.data : nullptr;
        if (tensor.isOnHost) {
            address = hostMemory(index, binding, needed);
        } else if (!isGiven) {
            address = allocator.own(needed);
        }
        allocator.settle(address, dims);
        accepted = context_->setTensorAddress(name, address != nullptr ? address : nothing);
    } else if (!tensor.isOnHost) {  // of host memory TensorRT knows the size
        allocator.settle(nullptr, dims);
        accepted = (!isGiven || isAligned(binding.data)) &&
                   context_->setOutputAllocator(name, &allocator);
    }
    if (!accepted) {
        throw Refusal(PAG_USAGE,
                      "TensorRT refuses the output '" + tensor.name + "'" + engine_.log().takeCause() + ".",
                      kSizesAndAlignment);
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

}  // namespace pagdeploy::runtime

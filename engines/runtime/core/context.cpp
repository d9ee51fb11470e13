#include "core/context.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "core/binding.hpp"
#include "dtype.hpp"

namespace pagdeploy::runtime {

Context::Context(std::shared_ptr<const Engine> engine, const pag_context_options& options)
    : engine_(std::move(engine)),
      inputs_(engine_->bundle().manifest().inputs.size()),
      outputs_(engine_->bundle().manifest().outputs.size()),
      isBound_(inputs_.size()),
      scalars_(inputs_.size()) {
    const BackendContextSpec spec{options.profile, options.allocate, options.allocate_user};
    Failure failure{};
    const pag_status status =
        engine_->backend().create_context(engine_->handle(), &spec, &handle_, &failure);
    if (status != PAG_OK) {
        throwFailure(status, failure);
    }
}

Context::~Context() { engine_->backend().release_context(handle_); }

void Context::bindInput(const char* name, const void* data, std::size_t bytes, std::int32_t dtype,
                        const std::int64_t* shape, std::int32_t rank, std::int32_t memory) {
    const std::vector<TensorSpec>& tensors = engine_->bundle().manifest().inputs;
    const std::size_t index = indexOf(tensors, name, "input");
    const TensorSpec& tensor = tensors[index];
    requireKind(tensor, dtype, memory, engine_->isOnCpu());
    if (rank < 0 || rank > PAG_MAX_RANK || (rank > 0 && shape == nullptr)) {
        throw misuse("The input '" + tensor.name + "' is given a rank of " + std::to_string(rank) +
                         " without such a shape.",
                     "Give its shape, " + textOf(tensor) + ".");
    }
    if (!takes(tensor, shape, static_cast<std::size_t>(rank))) {
        throw misuse("The input '" + tensor.name + "' is " + textOf(shape, rank) + " and must be " +
                         textOf(tensor) + ".",
                     "Give it the sizes that the model was exported with.");
    }
    const std::size_t needed = bytesOf(tensor, shape);
    if (bytes < needed || (data == nullptr && needed > 0)) {
        throw misuse("The input '" + tensor.name + "' needs " + std::to_string(needed) + " bytes, and " +
                         std::to_string(data == nullptr ? 0 : bytes) + " are bound.",
                     "Bind all of it.");
    }
    requireAligned(tensor, data);
    Binding binding{const_cast<void*>(data), needed, memory, rank, {}};
    std::copy_n(shape, rank, binding.shape);
    inputs_[index] = binding;
    isBound_[index] = true;
    rebound_ = true;
}

void Context::bindOutput(const char* name, void* data, std::size_t bytes, std::int32_t dtype,
                         std::int32_t memory) {
    const std::vector<TensorSpec>& tensors = engine_->bundle().manifest().outputs;
    const std::size_t index = indexOf(tensors, name, "output");
    if (data != nullptr) {
        requireKind(tensors[index], dtype, memory, engine_->isOnCpu());
        requireAligned(tensors[index], data);
    }
    outputs_[index] = {data, data == nullptr ? 0 : bytes, memory, -1, {}};
    rebound_ = true;
}

void Context::setScalar(const char* name, double value) {
    const std::vector<TensorSpec>& tensors = engine_->bundle().manifest().inputs;
    const std::size_t index = indexOf(tensors, name, "input");
    const TensorSpec& tensor = tensors[index];
    const std::vector<std::int64_t> ones(tensor.shape.size(), 1);
    if (!takes(tensor, ones.data(), ones.size())) {
        throw misuse("The input '" + tensor.name + "' is " + textOf(tensor) + ", not a scalar.",
                     "Bind it with pag_context_bind_input.");
    }
    void* const memory = &scalars_[index];
    storeScalar(tensor, value, memory);
    if (isBound_[index] && inputs_[index].data == memory) {
        return;  // a graph that was recorded reads the new value
    }
    Binding binding{memory, elementBytes(tensor.dtype), PAG_HOST, static_cast<std::int32_t>(ones.size()), {}};
    std::copy_n(ones.data(), ones.size(), binding.shape);
    inputs_[index] = binding;
    isBound_[index] = true;
    rebound_ = true;
}

Context::Sizes Context::boundSizes() const {
    const std::vector<TensorSpec>& tensors = engine_->bundle().manifest().inputs;
    Sizes sizes;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        if (!isBound_[i]) {
            throw misuse("The input '" + tensors[i].name + "' is not bound.",
                         "Bind every input before the first run.");
        }
        for (std::size_t axis = 0; axis < tensors[i].shape.size(); ++axis) {
            if (tensors[i].dimNames[axis].empty()) {
                continue;
            }
            const std::int64_t size = inputs_[i].shape[axis];
            const auto [found, isNew] =
                sizes.try_emplace(tensors[i].dimNames[axis], size, &tensors[i]);
            if (!isNew && found->second.first != size) {
                throw misuse("The size '" + found->first + "' is " +
                                 std::to_string(found->second.first) + " in the input '" +
                                 found->second.second->name + "' and " + std::to_string(size) +
                                 " in '" + tensors[i].name + "'.",
                             "Give both the same size.");
            }
        }
    }
    return sizes;
}

// The shapes of outputs whose every dynamic size is one of an input, too.
void Context::inferOutputs(const Sizes& sizes) {
    const std::vector<TensorSpec>& tensors = engine_->bundle().manifest().outputs;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        Binding& binding = outputs_[i];
        binding.rank = static_cast<std::int32_t>(tensors[i].shape.size());
        for (std::size_t axis = 0; axis < tensors[i].shape.size() && binding.rank >= 0; ++axis) {
            const auto found = sizes.find(tensors[i].dimNames[axis]);
            if (tensors[i].shape[axis] >= 0) {
                binding.shape[axis] = tensors[i].shape[axis];
            } else if (found != sizes.end()) {
                binding.shape[axis] = found->second.first;
            } else {
                binding.rank = -1;
            }
        }
        if (binding.data == nullptr || binding.rank < 0) {
            continue;
        }
        const std::size_t needed = bytesOf(tensors[i], binding.shape);
        if (binding.bytes < needed) {
            throw misuse("The output '" + tensors[i].name + "' needs " + std::to_string(needed) +
                             " bytes, and " + std::to_string(binding.bytes) + " are bound.",
                         "Bind more, or none and read it with pag_context_output.");
        }
    }
}

void Context::prepare(void* stream) {
    if (stream != nullptr && engine_->isOnCpu()) {
        throw misuse("A stream was given, and the engine runs on the CPU.", "Give NULL.");
    }
    if (rebound_) {
        inferOutputs(boundSizes());
    }
}

void Context::run(void* stream) {
    prepare(stream);
    Failure failure{};
    hasRun_ = false;
    const pag_status status = engine_->backend().run(handle_, inputs_.data(), outputs_.data(), rebound_,
                                                     stream, &failure);
    if (status != PAG_OK) {
        rebound_ = true;
        throwFailure(status, failure);
    }
    rebound_ = false;
    hasRun_ = true;
}

void Context::capture(void* stream) {
    prepare(stream);
    if (engine_->isOnCpu()) {
        throw misuse("A CUDA graph was asked for, and the engine runs on the CPU.",
                     "Use pag_context_run.");
    }
    Failure failure{};
    hasRun_ = false;
    const pag_status status =
        engine_->backend().capture(handle_, inputs_.data(), outputs_.data(), stream, &failure);
    rebound_ = status != PAG_OK;
    if (status != PAG_OK) {
        throwFailure(status, failure);
    }
    hasRun_ = true;
}

pag_tensor Context::output(const char* name) const {
    const std::size_t index = indexOf(engine_->bundle().manifest().outputs, name, "output");
    if (!hasRun_) {
        throw misuse("The output '" + std::string(name) + "' was asked for before a run succeeded.",
                     "Call pag_context_run first.");
    }
    pag_tensor tensor{};
    Failure failure{};
    const pag_status status = engine_->backend().output(handle_, index, &tensor, &failure);
    if (status != PAG_OK) {
        throwFailure(status, failure);
    }
    return tensor;
}

}  // namespace pagdeploy::runtime

#include "backends/onnxruntime/runner.hpp"

#include <cstring>

#include "dtype.hpp"

namespace pagdeploy::runtime {

namespace {

constexpr auto kSizes = "Try the sizes that the model was exported with.";

// What onnxruntime says of a tensor that it computed.
pag_tensor described(OrtValue* value) {
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    check(ort().GetTensorTypeAndShape(value, &raw), PAG_FAILED, "An output cannot be read", kSizes);
    const OrtHandle<OrtTensorTypeAndShapeInfo> info(raw);
    ONNXTensorElementDataType dtype = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::size_t rank = 0;
    std::size_t elements = 0;
    check(ort().GetTensorElementType(raw, &dtype), PAG_FAILED, "An output cannot be read", kSizes);
    check(ort().GetDimensionsCount(raw, &rank), PAG_FAILED, "An output cannot be read", kSizes);
    check(ort().GetTensorShapeElementCount(raw, &elements), PAG_FAILED, "An output cannot be read",
          kSizes);
    pag_tensor tensor{};
    if (rank > PAG_MAX_RANK) {
        throw Refusal(PAG_FAILED, "An output has " + std::to_string(rank) + " axes.", kSizes);
    }
    check(ort().GetDimensions(raw, tensor.shape, rank), PAG_FAILED, "An output cannot be read", kSizes);
    check(ort().GetTensorMutableData(value, &tensor.data), PAG_FAILED, "An output cannot be read",
          kSizes);
    tensor.dtype = dtype;
    tensor.rank = static_cast<std::int32_t>(rank);
    tensor.bytes = elements * elementBytes(dtype);
    tensor.memory = PAG_HOST;
    return tensor;
}

}  // namespace

OrtRunner::OrtRunner(const OrtEngine& engine, const BackendContextSpec& spec)
    : engine_(engine),
      spec_(spec),
      inputs_(engine.inputNames().size()),
      results_(engine.outputNames().size()),
      tensors_(engine.outputNames().size()) {}

OrtHandle<OrtValue> OrtRunner::wrapped(const Binding& binding, ONNXTensorElementDataType dtype) const {
    alignas(16) static char nothing[16];  // onnxruntime wants an address also where there are no elements
    void* const data = binding.data != nullptr ? binding.data : nothing;
    OrtValue* value = nullptr;
    check(ort().CreateTensorWithDataAsOrtValue(engine_.memoryInfo(binding.memory), data, binding.bytes,
                                               binding.shape, static_cast<std::size_t>(binding.rank),
                                               dtype, &value),
          PAG_USAGE, "onnxruntime refuses what is bound", kSizes);
    return OrtHandle<OrtValue>(value);
}

void OrtRunner::prepare(const Binding* inputs, const Binding* outputs) {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
        inputs_[i] = wrapped(inputs[i], engine_.inputDtype(i));
    }
    for (std::size_t i = 0; i < results_.size(); ++i) {
        const bool isGiven = outputs[i].data != nullptr && outputs[i].rank >= 0;
        results_[i].isGiven = isGiven;
        results_[i].value = isGiven ? wrapped(outputs[i], engine_.outputDtype(i)) : nullptr;
    }
}

void OrtRunner::run(const Binding* inputs, const Binding* outputs, bool rebound, void* stream) {
    if (stream != nullptr) {
        throw Refusal(PAG_USAGE, "A stream was given, and onnxruntime runs on one of its own.",
                      "Give NULL.");
    }
    if (rebound) {
        prepare(inputs, outputs);
    }
    std::vector<const OrtValue*> given;
    std::vector<OrtValue*> computed;
    for (const OrtHandle<OrtValue>& value : inputs_) {
        given.push_back(value.get());
    }
    for (Result& result : results_) {
        if (!result.isGiven) {
            result.value.reset();  // what onnxruntime allocated for the last run
        }
        computed.push_back(result.value.get());
    }
    OrtStatus* const status =
        ort().Run(engine_.session(), nullptr, engine_.inputNames().data(), given.data(), given.size(),
                  engine_.outputNames().data(), computed.size(), computed.data());
    for (std::size_t i = 0; i < results_.size(); ++i) {
        if (results_[i].value == nullptr) {
            results_[i].value.reset(computed[i]);
        }
    }
    check(status, PAG_FAILED, "onnxruntime fails on these inputs", kSizes);
    for (std::size_t i = 0; i < results_.size(); ++i) {
        handOver(i, outputs[i]);
    }
}

// Tells where an output is; copies it to where the caller wants it if that could not be said before.
void OrtRunner::handOver(std::size_t index, const Binding& binding) {
    pag_tensor tensor = described(results_[index].value.get());
    if (results_[index].isGiven) {
        tensor.memory = binding.memory;
    } else if (binding.data != nullptr || spec_.allocate != nullptr) {
        if (binding.data != nullptr && (binding.memory != PAG_HOST || binding.bytes < tensor.bytes)) {
            throw Refusal(PAG_USAGE,
                          std::string("The output '") + engine_.outputNames()[index] + "' needs " +
                              std::to_string(tensor.bytes) + " bytes of host memory.",
                          "Bind more, or none and read it with pag_context_output.");
        }
        void* const to = binding.data != nullptr ? binding.data : allocate(index, tensor.bytes);
        if (tensor.bytes > 0) {
            std::memcpy(to, tensor.data, tensor.bytes);
        }
        tensor.data = to;
    }
    tensors_[index] = tensor;
}

void* OrtRunner::allocate(std::size_t index, std::size_t bytes) const {
    const char* const name = engine_.outputNames()[index];
    void* const memory = spec_.allocate(spec_.allocate_user, name, bytes, PAG_HOST);
    if (memory == nullptr) {
        throw Refusal(PAG_ENVIRONMENT,
                      std::string("No memory was given for the output '") + name + "', " +
                          std::to_string(bytes) + " bytes.",
                      "Let pag_context_options.allocate return some.");
    }
    return memory;
}

pag_tensor OrtRunner::output(std::size_t index) const { return tensors_[index]; }

}  // namespace pagdeploy::runtime

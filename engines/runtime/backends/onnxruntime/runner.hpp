// One thread's runs of an onnxruntime session, on memory of the caller where that is possible.
#pragma once

#include <vector>

#include "backends/onnxruntime/session.hpp"

namespace pagdeploy::runtime {

class OrtRunner {
public:
    OrtRunner(const OrtEngine& engine, const BackendContextSpec& spec);

    void run(const Binding* inputs, const Binding* outputs, bool rebound, void* stream);
    pag_tensor output(std::size_t index) const;

private:
    // An output: where it was written, or what onnxruntime allocated.
    struct Result {
        OrtHandle<OrtValue> value;
        bool isGiven = false;  // in memory of the caller, of a shape that was known before
    };

    OrtHandle<OrtValue> wrapped(const Binding& binding, ONNXTensorElementDataType dtype) const;
    void prepare(const Binding* inputs, const Binding* outputs);
    void handOver(std::size_t index, const Binding& binding);
    void* allocate(std::size_t index, std::size_t bytes) const;

    const OrtEngine& engine_;
    BackendContextSpec spec_;
    std::vector<OrtHandle<OrtValue>> inputs_;
    std::vector<Result> results_;
    std::vector<pag_tensor> tensors_;
};

}  // namespace pagdeploy::runtime

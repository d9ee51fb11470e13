#include "pag_gate/plugin_core.hpp"

#include "common/cuda_check.hpp"
#include "common/kernel_tensor.hpp"

namespace pagdeploy {

PAGGateOp::Plan PAGGateOp::plan(const Attributes&, const Tensor* tensors) {
    const Tensor& logits = tensors[kLogits];
    GateProblem problem{};
    problem.type = elementType(logits.type);
    problem.grid = gridOf(logits.shape);
    problem.channels = kernelSize(logits.shape.d[1]);
    problem.strides = logits.layout == TensorLayout::kLinear
                          ? logitStridesNchw(problem.grid, problem.channels)
                          : logitStridesNhwc(problem.grid, pitchOf(logits));
    const char* const fault = faultOf(problem);
    PAG_CHECK(fault == nullptr, fault);
    return problem;
}

std::size_t PAGGateOp::workspaceBytes(const Attributes& attributes, const Tensor* tensors) {
    plan(attributes, tensors);  // refuses while the engine is built, not when it first runs
    return 0;
}

void PAGGateOp::enqueue(const Plan& plan, const void* const* inputs, void* const* outputs, void*,
                        cudaStream_t stream) {
    checkCuda(launchGate(plan, inputs[kLogits], static_cast<int*>(outputs[0]), stream),
              "launching the gate");
}

}  // namespace pagdeploy

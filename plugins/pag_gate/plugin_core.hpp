// PAGGate between a plugin interface and the kernels: no TensorRT here.
#pragma once

#include "pag_gate/launch.hpp"
#include "pag_gate/rules.hpp"

namespace pagdeploy {

struct PAGGateOp : PAGGateRules {
    using Plan = GateProblem;

    // All sizes known; throws a Refusal if the kernels cannot serve them.
    static Plan plan(const Attributes& attributes, const Tensor* tensors);

    // Enough for every shape up to that of `tensors`.
    static std::size_t workspaceBytes(const Attributes& attributes, const Tensor* tensors);

    static void enqueue(const Plan& plan, const void* const* inputs, void* const* outputs,
                        void* workspace, cudaStream_t stream);
};

}  // namespace pagdeploy

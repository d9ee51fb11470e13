// PerforatedConv between a plugin interface and the kernels: no TensorRT here.
#pragma once

#include "perforated_conv/launch.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy {

struct PerforatedConvOp : PerforatedConvRules {
    struct Plan {
        PerforatedConvProblem problem;
        PerforatedConvPlan launch;
    };

    // All sizes known; throws a Refusal if the kernels cannot serve them. Needs a device.
    static Plan plan(const Attributes& attributes, const Tensor* tensors);

    // Enough for every shape up to that of `tensors`. Needs no device.
    static std::size_t workspaceBytes(const Attributes& attributes, const Tensor* tensors);

    static void enqueue(const Plan& plan, const void* const* inputs, void* const* outputs,
                        void* workspace, cudaStream_t stream);
};

}  // namespace pagdeploy

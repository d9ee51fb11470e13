#include "perforated_conv/plugin_core.hpp"

#include "common/cuda_check.hpp"
#include "common/kernel_tensor.hpp"

namespace pagdeploy {

namespace {

using Op = PerforatedConvOp;

ConvGeometry geometryOf(const Op::Attributes& attributes, const Tensor* tensors) {
    const TensorShape output = evaluate(Op::outputShape(attributes, tensors), tensors);
    ConvGeometry geometry{};
    geometry.input = gridOf(tensors[Op::kX].shape);
    geometry.output = gridOf(output);
    geometry.kernelHeight = attributes.kernel_shape[0];
    geometry.kernelWidth = attributes.kernel_shape[1];
    geometry.strideY = attributes.strides[0];
    geometry.strideX = attributes.strides[1];
    geometry.groups = attributes.group;
    geometry.inputChannels = kernelSize(tensors[Op::kX].shape.d[1]);
    geometry.outputChannels = kernelSize(output.d[1]);
    return geometry;
}

PerforatedConvProblem problemOf(const Op::Attributes& attributes, const Tensor* tensors) {
    const ConvGeometry geometry = geometryOf(attributes, tensors);
    const BranchGeometry branch{attributes.dilations[0], attributes.dilations[1],
                                attributes.pads[0], attributes.pads[1]};
    PerforatedConvProblem problem = channelsLastProblem(elementType(tensors[Op::kX].type),
                                                        geometry, branch, attributes.branch);
    problem.mode = attributes.mode;
    problem.activation = attributes.activation;
    problem.alpha = attributes.alpha;
    problem.selectionPerImage = Op::selectionIsPerImage(tensors);
    problem.baseIsOneValue = Op::baseIsOneValue(tensors);
    // Channels may be padded: in memory every row is as long as its pitch.
    const int weightPitch = pitchOf(tensors[Op::kW]);
    problem.inputPitch = pitchOf(tensors[Op::kX]);
    problem.outputPitch = pitchOf(tensors[Op::kY]);
    problem.basePitch = problem.baseIsOneValue ? problem.outputPitch : pitchOf(tensors[Op::kBase]);
    problem.weightOutputStride = static_cast<long long>(geometry.taps()) * weightPitch;
    problem.weightTapStride = weightPitch;
    const char* const fault = faultOf(problem);
    PAG_CHECK(fault == nullptr, fault);
    return problem;
}

// Size of the output if its rows have room for channels that the kernels never write, else 0.
std::size_t paddedBytes(const PerforatedConvProblem& problem) {
    const std::size_t values = static_cast<std::size_t>(problem.geometry.output.pixels()) *
                               static_cast<std::size_t>(problem.outputPitch);
    const bool padded = problem.outputPitch > problem.geometry.outputChannels;
    return padded ? values * static_cast<std::size_t>(sizeOf(problem.type)) : 0;
}

}  // namespace

Op::Plan PerforatedConvOp::plan(const Attributes& attributes, const Tensor* tensors) {
    Plan plan{problemOf(attributes, tensors), {}};
    checkCuda(planPerforatedConv(plan.problem, &plan.launch), "choosing a kernel");
    return plan;
}

std::size_t PerforatedConvOp::workspaceBytes(const Attributes& attributes, const Tensor* tensors) {
    return perforatedConvWorkspaceBytes(problemOf(attributes, tensors));
}

void PerforatedConvOp::enqueue(const Plan& plan, const void* const* inputs, void* const* outputs,
                               void* workspace, cudaStream_t stream) {
    PAG_CHECK(workspace != nullptr, "there is no workspace");
    PerforatedConvBuffers buffers{};
    buffers.input = inputs[kX];
    buffers.selection = static_cast<const int*>(inputs[kSelection]);
    buffers.weights[0] = inputs[kW];
    buffers.bias[0] = inputs[kB];
    buffers.base = inputs[kBase];
    buffers.output = outputs[0];
    buffers.workspace = workspace;
    if (const std::size_t padded = paddedBytes(plan.problem)) {
        // TensorRT's own kernels read whole groups of eight channels, and NaN times zero is NaN.
        checkCuda(cudaMemsetAsync(buffers.output, 0, padded, stream), "clearing the output");
    }
    checkCuda(launchPerforatedConv(plan.problem, plan.launch, buffers, stream),
              "launching the convolution");
}

}  // namespace pagdeploy

#include "pag_gate/rules.hpp"

#include "common/check.hpp"
#include "common/host_device.hpp"

namespace pagdeploy {

void PAGGateRules::checkAttributes(const Attributes&) {}

OutputShape PAGGateRules::outputShape(const Attributes&, const Tensor* inputs) {
    const TensorShape& logits = inputs[kLogits].shape;
    PAG_CHECK(logits.rank == 4,
              "the logits must be (N, K, H, W), not of rank " + std::to_string(logits.rank));
    return {4,
            {OutputSize::of(kLogits, 0), OutputSize::constant(1), OutputSize::of(kLogits, 2),
             OutputSize::of(kLogits, 3)}};
}

TensorType PAGGateRules::outputType(const TensorType*) { return TensorType::kInt32; }

bool PAGGateRules::supports(int position, const Tensor* tensors) {
    const Tensor& tensor = tensors[position];
    const bool linear = tensor.layout == TensorLayout::kLinear;
    if (position == kSelection) {
        return linear && tensor.type == TensorType::kInt32;
    }
    return isFloat(tensor.type) && (linear || tensor.layout == channelsLast(tensor.type));
}

void PAGGateRules::checkTensors(const Attributes& attributes, const Tensor* tensors) {
    const TensorShape& logits = tensors[kLogits].shape;
    const TensorShape expected = evaluate(outputShape(attributes, tensors), tensors);
    const std::int64_t branches = logits.d[1];
    PAG_CHECK(branches < 0 || (branches >= 1 && branches <= kMaxBranches),
              "the logits have " + std::to_string(branches) + " channels; a gate has 1 to " +
                  std::to_string(kMaxBranches) + " branches");
    const TensorShape& selection = tensors[kSelection].shape;
    bool same = selection.rank == 4;
    for (int axis = 0; same && axis < 4; ++axis) {
        same = !contradict(selection.d[axis], expected.d[axis]);
    }
    PAG_CHECK(same, "the selection is " + textOf(selection) + " and must be " + textOf(expected) +
                        " for logits of " + textOf(logits));
}

}  // namespace pagdeploy

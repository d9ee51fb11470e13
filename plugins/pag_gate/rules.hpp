// What PAGGate takes and gives: shapes, types and layouts, without TensorRT and without CUDA.
#pragma once

#include "common/op_attributes.hpp"
#include "common/output_shape.hpp"

namespace pagdeploy {

struct PAGGateRules {
    using Attributes = PAGGateAttributes;
    static constexpr const char* kName = "PAGGate";
    static constexpr int kInputs = 1;

    enum Position { kLogits, kSelection };

    template <typename SomeAttributes, typename Visitor>
    static void visit(SomeAttributes&& attributes, Visitor&& visitor) {
        visitPAGGate(attributes, visitor);
    }

    static void checkAttributes(const Attributes& attributes);

    // Needs only the ranks of the inputs.
    static OutputShape outputShape(const Attributes& attributes, const Tensor* inputs);
    static TensorType outputType(const TensorType* inputs);

    // Whether the tensor at `position` may have its type and layout, given the earlier ones.
    static bool supports(int position, const Tensor* tensors);

    // Throws a Refusal if sizes that are known cannot be right. Inputs, then the output.
    static void checkTensors(const Attributes& attributes, const Tensor* tensors);
};

}  // namespace pagdeploy

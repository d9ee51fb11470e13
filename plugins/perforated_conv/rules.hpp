// What PerforatedConv takes and gives: shapes, types and layouts, without TensorRT and without
// CUDA.
#pragma once

#include "common/op_attributes.hpp"
#include "common/output_shape.hpp"

namespace pagdeploy {

struct PerforatedConvRules {
    using Attributes = PerforatedConvAttributes;
    static constexpr const char* kName = "PerforatedConv";
    static constexpr int kInputs = 5;

    enum Position { kX, kSelection, kW, kB, kBase, kY };

    template <typename SomeAttributes, typename Visitor>
    static void visit(SomeAttributes&& attributes, Visitor&& visitor) {
        visitPerforatedConv(attributes, visitor);
    }

    static void checkAttributes(const Attributes& attributes);

    // Needs only the ranks of the inputs.
    static OutputShape outputShape(const Attributes& attributes, const Tensor* inputs);
    static TensorType outputType(const TensorType* inputs);

    // Whether the tensor at `position` may have its type and layout, given the earlier ones.
    // Feature maps and weights are channels-last: the kernels read runs of channels, and
    // weights in that layout are [output channel][tap][input channel].
    static bool supports(int position, const Tensor* tensors);

    // Throws a Refusal if sizes that are known cannot be right. Inputs, then the output.
    static void checkTensors(const Attributes& attributes, const Tensor* tensors);

    // One value for all pixels and channels, unless that is the output's own size.
    static bool baseIsOneValue(const Tensor* tensors);
    // One decision for each image.
    static bool selectionIsPerImage(const Tensor* tensors);
};

}  // namespace pagdeploy

#include "onnxruntime/pixel_lists.hpp"

#include <algorithm>
#include <limits>

#include "pag_gate/cpu.hpp"
#include "pag_gate/rules.hpp"
#include "perforated_conv/cpu/support.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy::ort {

void GateKernel::compute(Context& context) const {
    const Value logits = context.input(0);
    const TensorShape& s = logits.shape;
    Tensor tensors[2];
    tensors[0].shape = s;
    tensors[1].shape = {4, {s.d[0], 1, s.d[2], s.d[3]}};
    PAGGateRules::checkTensors({}, tensors);
    auto* selection = context.output<std::int32_t>({s.d[0], 1, s.d[2], s.d[3]});
    const Grid grid{static_cast<int>(s.d[0]), static_cast<int>(s.d[2]), static_cast<int>(s.d[3])};
    selectBranches(logits.as<float>(), grid, static_cast<int>(s.d[1]), selection, context);
}

void GateKernel::inferShape(const ShapeContext& context) {
    const Dimensions logits = context.input(0);
    if (logits.size() == 4) {
        context.setOutput({logits[0], {1, ""}, logits[2], logits[3]}, kOutput);
    }
}

ActivePixelsKernel::ActivePixelsKernel(const KernelInfo& info) { info.read("branch", branch_); }

void ActivePixelsKernel::compute(Context& context) const {
    const Value selection = context.input(0);
    const std::size_t size = selection.elements();
    PAG_CHECK(size <= std::numeric_limits<std::int32_t>::max(),
              "the selection is " + textOf(selection.shape) + ", more than 2^31 - 1 pixels");
    HostArray<std::int32_t> pixels(context, size);
    const std::size_t count =
        listActivePixels(selection.as<std::int32_t>(), size, branch_, pixels.data());
    std::copy_n(pixels.data(), count,
                context.output<std::int32_t>({static_cast<std::int64_t>(count)}));
}

SupportPixelsKernel::SupportPixelsKernel(const KernelInfo& info) {
    PerforatedConvAttributes attributes;
    info.read("kernel_shape", attributes.kernel_shape);
    info.read("strides", attributes.strides);
    info.read("pads", attributes.pads);
    info.read("dilations", attributes.dilations);
    PerforatedConvRules::checkAttributes(attributes);
    shape_ = cpu::kernelShapeOf(attributes, 1, 1);
}

void SupportPixelsKernel::compute(Context& context) const {
    const Value pixels = context.input(0);
    const Value size = context.input(1);
    PAG_CHECK(size.shape.rank == 1 && size.shape.d[0] == 3,
              "the size is " + textOf(size.shape) + " and must be three numbers: N, H, W");
    const auto* d = size.as<std::int64_t>();
    double product = 1.0;
    for (int axis = 0; axis < 3; ++axis) {
        PAG_CHECK(d[axis] >= 0, "the size " + std::to_string(d[axis]) + " is negative");
        product *= static_cast<double>(d[axis]);
    }
    PAG_CHECK(product <= std::numeric_limits<std::int32_t>::max(),
              "the map has more than 2^31 - 1 pixels");
    const Grid input{static_cast<int>(d[0]), static_cast<int>(d[1]), static_cast<int>(d[2])};
    const ConvGeometry geometry = shape_.over(input);
    checkPixels(pixels, geometry.output.pixels());
    HostArray<std::int32_t> support(context, static_cast<std::size_t>(input.pixels()));
    const std::size_t count =
        cpu::listSupport(geometry, shape_.reach, pixels.as<std::int32_t>(), pixels.elements(),
                         support.data(), context);
    std::copy_n(support.data(), count,
                context.output<std::int32_t>({static_cast<std::int64_t>(count)}));
}

void checkPixels(const Value& pixels, std::int64_t mapPixels) {
    PAG_CHECK(pixels.shape.rank == 1,
              "the list of pixels is " + textOf(pixels.shape) + " and must have one axis");
    const auto* list = pixels.as<std::int32_t>();
    const std::size_t count = pixels.elements();
    bool ascends = true;
    for (std::size_t i = 1; i < count; ++i) {
        ascends &= list[i - 1] < list[i];
    }
    PAG_CHECK(ascends, "the list of pixels does not ascend");
    PAG_CHECK(count == 0 || (list[0] >= 0 && list[count - 1] < mapPixels),
              "the list of pixels leaves the map of " + std::to_string(mapPixels) + " pixels");
}

}  // namespace pagdeploy::ort

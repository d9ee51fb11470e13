#include "onnxruntime/layout.hpp"

#include "perforated_conv/cpu/activation.hpp"
#include "perforated_conv/cpu/layout.hpp"
#include "perforated_conv/cpu/means.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy::ort {

namespace {

void checkRank(const TensorShape& x) {
    PAG_CHECK(x.rank == 4, "X must be of rank 4, not " + std::to_string(x.rank));
}

cpu::MapSize mapSize(std::int64_t images, std::int64_t channels, std::int64_t height,
                     std::int64_t width) {
    return {static_cast<std::size_t>(images), static_cast<std::size_t>(channels),
            static_cast<std::size_t>(height * width)};
}

}  // namespace

ToChannelsLastKernel::ToChannelsLastKernel(const KernelInfo& info) {
    PerforatedConvAttributes attributes;
    attributes.kernel_shape = {1, 1};
    info.read("activation", attributes.activation);
    info.read("alpha", attributes.alpha);
    PerforatedConvRules::checkAttributes(attributes);
    bend_ = cpu::bendOf(attributes.activation, attributes.alpha);
}

void ToChannelsLastKernel::compute(Context& context) const {
    const Value x = context.input(0);
    checkRank(x.shape);
    const auto* d = x.shape.d;
    cpu::toChannelsLast(mapSize(d[0], d[1], d[2], d[3]), x.as<float>(), bend_,
                        context.output<float>({d[0], d[2], d[3], d[1]}),
                        *cpu::instructionSets().front(), context);
}

void ToChannelsLastKernel::inferShape(const ShapeContext& context) {
    const Dimensions x = context.input(0);
    if (x.size() == 4) {
        context.setOutput({x[0], x[2], x[3], x[1]}, kOutput);
    }
}

void ToChannelsFirstKernel::compute(Context& context) const {
    const Value x = context.input(0);
    checkRank(x.shape);
    const auto* d = x.shape.d;
    cpu::toChannelsFirst(mapSize(d[0], d[3], d[1], d[2]), x.as<float>(),
                         context.output<float>({d[0], d[3], d[1], d[2]}),
                         *cpu::instructionSets().front(), context);
}

void ToChannelsFirstKernel::inferShape(const ShapeContext& context) {
    const Dimensions x = context.input(0);
    if (x.size() == 4) {
        context.setOutput({x[0], x[3], x[1], x[2]}, kOutput);
    }
}

void ChannelMeansNhwcKernel::compute(Context& context) const {
    const Value x = context.input(0);
    checkRank(x.shape);
    const auto* d = x.shape.d;
    cpu::channelMeans(mapSize(d[0], d[3], d[1], d[2]), x.as<float>(),
                      context.output<float>({d[0], 1, 1, d[3]}), context);
}

void ChannelMeansNhwcKernel::inferShape(const ShapeContext& context) {
    const Dimensions x = context.input(0);
    if (x.size() == 4) {
        context.setOutput({x[0], Dimension{1, {}}, Dimension{1, {}}, x[3]}, kOutput);
    }
}

}  // namespace pagdeploy::ort

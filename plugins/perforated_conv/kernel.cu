// The kernels of families tensor and exact, and the direct kernel, made from variants.inc.
#include "perforated_conv/kernel.cuh"

#include "perforated_conv/kernel_direct.cuh"
#include "perforated_conv/variants.hpp"

namespace pagdeploy {

namespace {

template <typename TileShape>
VariantKernel describe() {
    return {gatherConv<TileShape>, TileShape::kThreads,
            GatherConvMemory<TileShape>::kTableOffset};
}

#define PAG_MAKE_tensor(element, rows, columns, down, across, stages, blocks) \
    describe<TensorCoreTile<element, rows, columns, down, across, stages, blocks>>()
#define PAG_MAKE_exact(element, rows, columns, down, across, stages, blocks) \
    describe<ExactFloatTile<rows, columns, down, across, stages, blocks>>()
#define PAG_MAKE_wgmma(element, rows, columns, down, across, stages, blocks) VariantKernel{}

}  // namespace

VariantKernel tensorOrExactKernel(int variant) {
    const VariantKernel kernels[] = {
#define PAG_VARIANT(name, family, element, rows, columns, down, across, stages, blocks) \
    PAG_MAKE_##family(element, rows, columns, down, across, stages, blocks),
#include "perforated_conv/variants.inc"
    };
    return kernels[variant];
}

PlainFunction directKernel(DataType type) {
    switch (type) {
        case DataType::kFloat32:
            return directConv<float>;
        case DataType::kFloat16:
            return directConv<Half>;
        case DataType::kBFloat16:
            return directConv<BFloat16>;
    }
    return nullptr;
}

}  // namespace pagdeploy

// The kernels of family wgmma, made from variants.inc. nvcc compiles this file for sm_90a only;
// PAGDEPLOY_NO_WGMMA leaves it empty where that architecture is not asked for.
#include "perforated_conv/variants.hpp"

#if !defined(PAGDEPLOY_NO_WGMMA)
#include "perforated_conv/kernel_wgmma.cuh"
#endif

namespace pagdeploy {

#if defined(PAGDEPLOY_NO_WGMMA)

VariantKernel wgmmaKernel(int) { return {}; }

#else

namespace {

template <typename TileShape>
VariantKernel describe() {
    return {gatherConvWgmma<TileShape>, TileShape::kThreads,
            GatherConvMemory<TileShape>::kTableOffset};
}

#define PAG_MAKE_tensor(element, rows, columns, stages) VariantKernel{}
#define PAG_MAKE_exact(element, rows, columns, stages) VariantKernel{}
#define PAG_MAKE_wgmma(element, rows, columns, stages) \
    describe<WarpgroupTile<element, rows, columns, stages>>()

}  // namespace

VariantKernel wgmmaKernel(int variant) {
    const VariantKernel kernels[] = {
#define PAG_VARIANT(name, family, element, rows, columns, down, across, stages, blocks) \
    PAG_MAKE_##family(element, rows, columns, stages),
#include "perforated_conv/variants.inc"
    };
    return kernels[variant];
}

#endif

}  // namespace pagdeploy

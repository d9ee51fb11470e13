// The rows of variants.inc as data, for the planner; kernel.cu and kernel_wgmma.cu hold the code.
#pragma once

#include <cuda_runtime_api.h>

#include "common/element.hpp"
#include "perforated_conv/params.hpp"

namespace pagdeploy {

enum class VariantFamily { tensor, exact, wgmma };

struct Variant {
    const char* name;
    VariantFamily family;
    DataType type;
    int rows;
    int columns;
};

using PlainFunction = void (*)(ConvParams);

// A variant's kernel, as compiled into this library.
struct VariantKernel {
    PlainFunction function;
    int threads;
    int tableOffset;  // shared memory in front of the row table
};

constexpr Variant kVariants[] = {
#define PAG_VARIANT(name, family, element, rows, columns, down, across, stages, blocks) \
    {#name, VariantFamily::family, ElementTraits<element>::kType, rows, columns},
#include "perforated_conv/variants.inc"
};

constexpr int kVariantCount = int(sizeof(kVariants) / sizeof(kVariants[0]));

// The kernel of a row; a function of nullptr where this build has none.
VariantKernel tensorOrExactKernel(int variant);
VariantKernel wgmmaKernel(int variant);
PlainFunction directKernel(DataType type);

}  // namespace pagdeploy

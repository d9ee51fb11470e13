// Compiled with -mavx2 -mfma: twelve sums, two weights and a broadcast in sixteen registers.
#define PAG_VECTOR_FLOATS 8
#define PAG_TILE_ROWS 6
#include "perforated_conv/cpu/kernel_loops.hpp"
#include "perforated_conv/cpu/transpose_loops.hpp"

namespace pagdeploy::cpu {

const InstructionSet kAvx2{"avx2", kTileRows, kPanel, multiply, depthwise, narrow, transpose};

}  // namespace pagdeploy::cpu

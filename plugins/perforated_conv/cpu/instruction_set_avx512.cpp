// Compiled with -mavx512f: twenty-four sums, two weights and a broadcast in 32 registers.
#define PAG_VECTOR_FLOATS 16
#define PAG_TILE_ROWS 12
#include "perforated_conv/cpu/kernel_loops.hpp"
#include "perforated_conv/cpu/transpose_loops.hpp"

namespace pagdeploy::cpu {

const InstructionSet kAvx512{"avx512", kTileRows, kPanel, multiply, depthwise, narrow, transpose};

}  // namespace pagdeploy::cpu

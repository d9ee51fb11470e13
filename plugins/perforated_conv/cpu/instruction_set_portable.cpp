// For every processor: vectors of 16 bytes are SSE2 on x86-64 and NEON on Arm.
#define PAG_VECTOR_FLOATS 4
#define PAG_TILE_ROWS 6
#include "perforated_conv/cpu/kernel_loops.hpp"
#include "perforated_conv/cpu/transpose_loops.hpp"

namespace pagdeploy::cpu {

const InstructionSet kPortable{"portable", kTileRows, kPanel, multiply, depthwise, narrow, transpose};

}  // namespace pagdeploy::cpu

// The kernels of family wgmma.
#include "perforated_conv/variants.hpp"

namespace pagdeploy {

VariantKernel wgmmaKernel(int) { return {}; }

}  // namespace pagdeploy

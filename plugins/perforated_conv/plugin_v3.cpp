// PerforatedConv for TensorRT 10 and 11.
#include "common/creators.hpp"
#include "common/plugin_v3.hpp"
#include "perforated_conv/plugin_core.hpp"

#if PAG_TENSORRT_V3

namespace pagdeploy {

Creator* perforatedConvCreator(std::size_t namespaceIndex) {
    static CreatorV3<PerforatedConvOp> creators[] = {CreatorV3<PerforatedConvOp>(kPluginNamespaces[0]),
                                             CreatorV3<PerforatedConvOp>(kPluginNamespaces[1])};
    return &creators[namespaceIndex];
}

}  // namespace pagdeploy

#endif

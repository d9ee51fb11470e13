// PerforatedConv for TensorRT 8.5 and 8.6.
#include "common/creators.hpp"
#include "common/plugin_v2.hpp"
#include "perforated_conv/plugin_core.hpp"

#if !PAG_TENSORRT_V3

namespace pagdeploy {

Creator* perforatedConvCreator(std::size_t namespaceIndex) {
    static CreatorV2<PerforatedConvOp> creators[] = {CreatorV2<PerforatedConvOp>(kPluginNamespaces[0]),
                                             CreatorV2<PerforatedConvOp>(kPluginNamespaces[1])};
    return &creators[namespaceIndex];
}

}  // namespace pagdeploy

#endif

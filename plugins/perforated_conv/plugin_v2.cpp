// PerforatedConv for TensorRT 8.5 and 8.6.
#include "common/creators.hpp"
#include "common/plugin_v2.hpp"
#include "perforated_conv/plugin_core.hpp"

#if !PAG_TENSORRT_V3

namespace pagdeploy {

Creator* perforatedConvCreator(std::size_t namespaceIndex) {
    static CreatorV2<PerforatedConvOp> named(kPluginNamespaces[0]);
    static CreatorV2<PerforatedConvOp> unnamed(kPluginNamespaces[1]);
    return namespaceIndex == 0 ? &named : &unnamed;
}

}  // namespace pagdeploy

#endif

// PerforatedConv for TensorRT 10 and 11.
#include "common/creators.hpp"
#include "common/plugin_v3.hpp"
#include "perforated_conv/plugin_core.hpp"

#if PAG_TENSORRT_V3

namespace pagdeploy {

Creator* perforatedConvCreator(std::size_t namespaceIndex) {
    static CreatorV3<PerforatedConvOp> named(kPluginNamespaces[0]);
    static CreatorV3<PerforatedConvOp> unnamed(kPluginNamespaces[1]);
    return namespaceIndex == 0 ? &named : &unnamed;
}

}  // namespace pagdeploy

#endif

// PAGGate for TensorRT 8.5 and 8.6.
#include "common/creators.hpp"
#include "common/plugin_v2.hpp"
#include "pag_gate/plugin_core.hpp"

#if !PAG_TENSORRT_V3

namespace pagdeploy {

Creator* pagGateCreator(std::size_t namespaceIndex) {
    static CreatorV2<PAGGateOp> named(kPluginNamespaces[0]);
    static CreatorV2<PAGGateOp> unnamed(kPluginNamespaces[1]);
    return namespaceIndex == 0 ? &named : &unnamed;
}

}  // namespace pagdeploy

#endif

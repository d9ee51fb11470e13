// PAGGate for TensorRT 8.5 and 8.6.
#include "common/creators.hpp"
#include "common/plugin_v2.hpp"
#include "pag_gate/plugin_core.hpp"

#if !PAG_TENSORRT_V3

namespace pagdeploy {

Creator* pagGateCreator(std::size_t namespaceIndex) {
    static CreatorV2<PAGGateOp> creators[] = {CreatorV2<PAGGateOp>(kPluginNamespaces[0]),
                                             CreatorV2<PAGGateOp>(kPluginNamespaces[1])};
    return &creators[namespaceIndex];
}

}  // namespace pagdeploy

#endif

// PAGGate for TensorRT 10 and 11.
#include "common/creators.hpp"
#include "common/plugin_v3.hpp"
#include "pag_gate/plugin_core.hpp"

#if PAG_TENSORRT_V3

namespace pagdeploy {

Creator* pagGateCreator(std::size_t namespaceIndex) {
    static CreatorV3<PAGGateOp> creators[] = {CreatorV3<PAGGateOp>(kPluginNamespaces[0]),
                                             CreatorV3<PAGGateOp>(kPluginNamespaces[1])};
    return &creators[namespaceIndex];
}

}  // namespace pagdeploy

#endif

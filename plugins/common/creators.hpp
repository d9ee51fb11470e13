// The creators of every op: what the library hands to TensorRT.
#pragma once

#include <cstddef>

#include "common/trt_compat.hpp"

namespace pagdeploy {

#if PAG_TENSORRT_V3
using Creator = nvinfer1::IPluginCreatorInterface;
#else
using Creator = nvinfer1::IPluginCreator;
#endif

// One for each of kPluginNamespaces, in that order; they live as long as the library.
Creator* pagGateCreator(std::size_t namespaceIndex);
Creator* perforatedConvCreator(std::size_t namespaceIndex);

}  // namespace pagdeploy

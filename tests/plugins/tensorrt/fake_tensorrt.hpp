// A library that looks to plugins like TensorRT: it has a version, a logger finder and a logger.
#pragma once

#include <NvInferRuntime.h>

#include "common/trt_compat.hpp"

#define FAKE_TENSORRT_API extern "C" __attribute__((visibility("default")))

#if PAG_TENSORRT_HAS_LOGGER_FINDER
FAKE_TENSORRT_API nvinfer1::ILoggerFinder* fakeLoggerFinder();
#endif
// What getInferLibVersion() and its kin say; by default the version of the headers.
FAKE_TENSORRT_API void fakeSetMajorVersion(int major);
// Whether the finder finds a logger.
FAKE_TENSORRT_API void fakeSetLoggerPresent(bool present);
// The messages so far, one a line; forgets them.
FAKE_TENSORRT_API const char* fakeTakeMessages();

// As much of the ONNX parser's interface as the runner calls; see NvInfer.h beside it.
#pragma once

#include "NvInfer.h"

constexpr int NV_ONNX_PARSER_VERSION = 1;

namespace nvonnxparser {

struct IParserError {
    virtual const char* desc() const = 0;
    virtual int node() const = 0;
};
struct IParser {
    virtual ~IParser() = default;
    virtual bool parseFromFile(const char* path, int verbosity) noexcept = 0;
    virtual int getNbErrors() const noexcept = 0;
    virtual const IParserError* getError(int index) const noexcept = 0;
};

}  // namespace nvonnxparser

extern "C" void* createNvOnnxParser_INTERNAL(void* network, void* logger, int version) noexcept;

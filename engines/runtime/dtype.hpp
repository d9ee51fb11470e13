// Dtypes as core and back ends see them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pagdeploy/pagdeploy.h"

namespace pagdeploy::runtime {

constexpr std::size_t elementBytes(std::int32_t dtype) {
    switch (dtype) {
        case PAG_FLOAT64:
        case PAG_INT64:
            return 8;
        case PAG_FLOAT32:
        case PAG_INT32:
            return 4;
        case PAG_FLOAT16:
        case PAG_BFLOAT16:
            return 2;
        default:
            return 1;
    }
}

struct NamedDtype {
    const char* name;  // as numpy calls it
    pag_dtype dtype;
};

constexpr NamedDtype kDtypes[] = {
    {"float32", PAG_FLOAT32}, {"uint8", PAG_UINT8},     {"int8", PAG_INT8},
    {"int32", PAG_INT32},     {"int64", PAG_INT64},     {"bool", PAG_BOOL},
    {"float16", PAG_FLOAT16}, {"float64", PAG_FLOAT64}, {"bfloat16", PAG_BFLOAT16},
};

}  // namespace pagdeploy::runtime

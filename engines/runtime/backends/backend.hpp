// What a back end is to the runtime: a library of its own that exports one function.
//
// The core checks bundles, names, dtypes, shapes and the order of calls, so a back end may rely on
// them; it alone includes a header of onnxruntime or TensorRT. Plain structs and function pointers
// cross the border, so that each side may be built by another compiler. No exception does.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pagdeploy/pagdeploy.h"

namespace pagdeploy::runtime {

// Core and back end come out of one build, so any other number is refused.
constexpr std::uint32_t kBackendVersion = 1;

// Where a back end says what is wrong; both texts are cut where they are too long.
struct Failure {
    char message[1024];
    char remedy[512];
};

// An input or output; inputs come first, each side in the order of the manifest.
struct BackendTensor {
    const char* name;
    std::int32_t dtype;
    std::int32_t rank;
    const std::int64_t* shape;  // [rank], -1 where dynamic
};

// What an engine is made of. Pointers are valid until it is released, unless said otherwise.
struct BackendEngineSpec {
    const char* flavour;      // as in the manifest
    const char* version;      // of the runtime that it was built with
    const void* engine_data;  // the bytes that were hashed; valid while the engine is made
    std::size_t engine_bytes;
    const char* const* libraries;  // to load first: plugin libraries, or libraries of our ops
    std::size_t library_count;
    bool version_compatible;  // of a plan: a newer TensorRT may load it, and it may hold code
    const BackendTensor* inputs;
    std::size_t input_count;
    const BackendTensor* outputs;
    std::size_t output_count;
    const char* runtime_library;  // or null
    std::int32_t device;
    std::int32_t threads;
    bool allow_host_code;
    pag_log log;  // never null
    void* log_user;
};

struct BackendContextSpec {
    std::int32_t profile;    // counted from one; 0: the first that takes the inputs
    pag_allocate allocate;   // or null
    void* allocate_user;
};

// What is bound to an input or output when a run begins.
struct Binding {
    void* data;                        // null: the back end is to allocate this output
    std::size_t bytes;
    std::int32_t memory;               // a pag_memory
    std::int32_t rank;                 // of an output -1 where its shape is not known before the run
    std::int64_t shape[PAG_MAX_RANK];
};

// The functions of a back end. Handles are its own; null after a failure.
struct Backend {
    std::uint32_t version;  // kBackendVersion
    const char* name;       // "onnxruntime", "tensorrt10"

    pag_status (*create_engine)(const BackendEngineSpec* spec, void** engine, Failure* failure);
    void (*release_engine)(void* engine);
    // Such as "onnxruntime 1.20.1".
    const char* (*runtime)(void* engine);

    pag_status (*create_context)(void* engine, const BackendContextSpec* spec, void** context,
                                 Failure* failure);
    void (*release_context)(void* context);

    // `rebound`: something was bound anew since the last run, so nothing kept from it still holds.
    pag_status (*run)(void* context, const Binding* inputs, const Binding* outputs, bool rebound,
                      void* stream, Failure* failure);
    // Records a graph, which later runs replay as long as nothing is rebound.
    pag_status (*capture)(void* context, const Binding* inputs, const Binding* outputs, void* stream,
                          Failure* failure);
    // An output of the last run, by its index.
    pag_status (*output)(void* context, std::size_t index, pag_tensor* tensor, Failure* failure);
};

}  // namespace pagdeploy::runtime

// The one export: the table, which lives as long as the library is loaded.
extern "C" PAG_API const pagdeploy::runtime::Backend* pag_backend();

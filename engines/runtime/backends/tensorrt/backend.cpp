// The back end for TensorRT plans; one library for each major version.
#include <new>

#include "backends/tensorrt/runner.hpp"

using namespace pagdeploy::runtime;

namespace {

cudaStream_t streamOf(void* stream) { return static_cast<cudaStream_t>(stream); }

pag_status createEngine(const BackendEngineSpec* spec, void** engine, Failure* failure) {
    return crossing(failure, [&] { *engine = new TrtEngine(*spec); });
}

void releaseEngine(void* engine) { delete static_cast<TrtEngine*>(engine); }

const char* runtime(void* engine) { return static_cast<TrtEngine*>(engine)->runtime(); }

pag_status createContext(void* engine, const BackendContextSpec* spec, void** context,
                         Failure* failure) {
    return crossing(failure,
                    [&] { *context = new TrtRunner(*static_cast<TrtEngine*>(engine), *spec); });
}

void releaseContext(void* context) { delete static_cast<TrtRunner*>(context); }

pag_status run(void* context, const Binding* inputs, const Binding* outputs, bool rebound, void* stream,
               Failure* failure) {
    return crossing(failure, [&] {
        static_cast<TrtRunner*>(context)->run(inputs, outputs, rebound, streamOf(stream));
    });
}

pag_status capture(void* context, const Binding* inputs, const Binding* outputs, void* stream,
                   Failure* failure) {
    return crossing(failure, [&] {
        static_cast<TrtRunner*>(context)->capture(inputs, outputs, streamOf(stream));
    });
}

pag_status output(void* context, std::size_t index, pag_tensor* tensor, Failure* failure) {
    return crossing(failure, [&] { *tensor = static_cast<TrtRunner*>(context)->output(index); });
}

constexpr Backend kBackend = {kBackendVersion, "tensorrt",     createEngine, releaseEngine, runtime,
                              createContext,   releaseContext, run,          capture,       output};

}  // namespace

const Backend* pag_backend() { return &kBackend; }

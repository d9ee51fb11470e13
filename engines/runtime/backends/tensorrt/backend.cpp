// The back end for TensorRT plans; one library for each major version.
#include <new>

#include "backends/tensorrt/runner.hpp"

using namespace pagdeploy::runtime;

namespace {

cudaStream_t streamOf(void* stream) { return static_cast<cudaStream_t>(stream); }

pag_status createEngine(const BackendEngineSpec* spec, void** engine, Failure* failure) {
    return crossing(failure, [&] { *engine = new TrtEngine(*spec); });
}

// What it holds belongs to its GPU, which may not be the one of the thread that releases it.
template <class T>
void releaseOn(const TrtEngine& engine, T* object) {
    Failure ignored{};
    if (crossing(&ignored, [&] {
            const UsedDevice device = engine.useDevice();
            delete object;
        }) != PAG_OK) {
        delete object;  // a GPU that cannot be chosen any more holds nothing
    }
}

void releaseEngine(void* engine) {
    if (engine != nullptr) {
        releaseOn(*static_cast<TrtEngine*>(engine), static_cast<TrtEngine*>(engine));
    }
}

const char* runtime(void* engine) { return static_cast<TrtEngine*>(engine)->runtime(); }

pag_status createContext(void* engine, const BackendContextSpec* spec, void** context,
                         Failure* failure) {
    return crossing(failure,
                    [&] { *context = new TrtRunner(*static_cast<TrtEngine*>(engine), *spec); });
}

void releaseContext(void* context) {
    if (context != nullptr) {
        auto* const runner = static_cast<TrtRunner*>(context);
        releaseOn(runner->engine(), runner);
    }
}

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

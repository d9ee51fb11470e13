// The back end for engines that are ONNX graphs: onnxruntime on the CPU, or on a GPU with CUDA.
#include <new>

#include "backends/onnxruntime/runner.hpp"

using namespace pagdeploy::runtime;

namespace {

pag_status createEngine(const BackendEngineSpec* spec, void** engine, Failure* failure) {
    return crossing(failure, [&] { *engine = new OrtEngine(*spec); });
}

void releaseEngine(void* engine) { delete static_cast<OrtEngine*>(engine); }

const char* runtime(void* engine) { return static_cast<OrtEngine*>(engine)->runtime(); }

pag_status createContext(void* engine, const BackendContextSpec* spec, void** context,
                         Failure* failure) {
    return crossing(failure, [&] {
        if (spec->profile != 0) {
            throw Refusal(PAG_USAGE, "An optimization profile was chosen, and the engine has none.",
                          "Leave pag_context_options.profile at 0.");
        }
        *context = new OrtRunner(*static_cast<OrtEngine*>(engine), *spec);
    });
}

void releaseContext(void* context) { delete static_cast<OrtRunner*>(context); }

pag_status run(void* context, const Binding* inputs, const Binding* outputs, bool rebound, void* stream,
               Failure* failure) {
    return crossing(failure, [&] {
        static_cast<OrtRunner*>(context)->run(inputs, outputs, rebound, stream);
    });
}

pag_status capture(void*, const Binding*, const Binding*, void*, Failure* failure) {
    return crossing(failure, [] {
        throw Refusal(PAG_USAGE, "onnxruntime engines are not recorded as CUDA graphs here.",
                      "Use pag_context_run, or build the bundle for TensorRT.");
    });
}

pag_status output(void* context, std::size_t index, pag_tensor* tensor, Failure* failure) {
    return crossing(failure, [&] { *tensor = static_cast<OrtRunner*>(context)->output(index); });
}

constexpr Backend kBackend = {kBackendVersion, "onnxruntime", createEngine, releaseEngine, runtime,
                              createContext,   releaseContext, run,          capture,       output};

}  // namespace

const Backend* pag_backend() { return &kBackend; }

// Build, run and time TensorRT engines without Python. One source for TensorRT 8.6 to 11.
//
//   trt_runner facts
//   trt_runner build MODEL.onnx ENGINE [--shape NAME:SHAPE]... [--fp16] [--float32-layers FILE]
//                    [--tf32] [--workspace MIB] [--cache FILE]
//   trt_runner run   ENGINE --inputs DIR... [--shape NAME:SHAPE]... [--outputs DIR]
//                    [--graph] [--layers FILE] [--profile RUNS]
//   trt_runner time  ENGINE... --inputs DIR... [--shape NAME:SHAPE]... [--rounds N]
//
// With every command: [--plugin LIBRARY]... [--json FILE] [--verbose]. The result is one line of
// JSON. Tensors are raw little-endian files NAME.bin of the engine's own data type and linear
// layout; SHAPE is 1x3x480x640, or smallest,usual,largest where an engine is built. Outputs are
// poisoned before every run whose results are written.
//
// --fp16 allows half precision where the builder chooses types (before TensorRT 10), except for
// the layers that --float32-layers lists; later versions follow the types in the model.
//
// Exit codes: 0 done, 77 no CUDA device, 1 anything else, said in one sentence on stderr.
#include "build.hpp"
#include "execute.hpp"

namespace {

std::string facts(const TensorRt& trt) {
    cudaDeviceProp device{};
    int driver = 0, runtime = 0;
    checkCuda(cudaGetDeviceProperties(&device, 0), "asking for the device's properties");
    checkCuda(cudaDriverGetVersion(&driver), "asking for the driver's version");
    checkCuda(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
    return json::Node('{')
        .add("device", json::text(device.name))
        .add("capability", json::text(std::to_string(device.major) + "." +
                                      std::to_string(device.minor)))
        .add("multiprocessors", std::to_string(device.multiProcessorCount))
        .add("l2_bytes", std::to_string(device.l2CacheSize))
        .add("cuda_driver", std::to_string(driver))
        .add("cuda_runtime", std::to_string(runtime))
        .add("tensorrt_headers", std::to_string(NV_TENSORRT_VERSION))
        .add("tensorrt_library", std::to_string(trt.versionOfLibrary()))
        .str();
}

int execute(const Options& o) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        // Without a device TensorRT hands out a runtime that crashes when it is used.
        std::fprintf(stderr, "skipped: no CUDA device\n");
        return 77;
    }
    TensorRt trt(o.plugins, o.verbose);
    const std::string result = o.command == "facts"   ? facts(trt)
                               : o.command == "build" ? build(trt, o)
                               : o.command == "run"   ? run(trt, o)
                                                      : timeInTurns(trt, o);
    std::printf("%s\n", result.c_str());
    if (!o.json.empty()) writeFile(o.json, result.data(), result.size());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return execute(parseOptions(argc, argv));
    } catch (const std::exception& problem) {
        std::fprintf(stderr, "error: %s\n", problem.what());
        return 1;
    }
}

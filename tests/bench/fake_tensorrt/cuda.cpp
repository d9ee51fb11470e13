// The CUDA runtime of the fake. Its device is there unless FAKE_NO_DEVICE is set.
#include "cuda_runtime_api.h"

#include <chrono>
#include <cstdlib>
#include <cstring>

void fakeLaunch(cudaStream_t stream, std::function<void()> call) {
    if (stream->capturing) {
        stream->captured.push_back(std::move(call));
    } else {
        call();
    }
}

// Of the driver's library, which the script asks before it starts anything.
extern "C" int cuInit(unsigned) { return 0; }
extern "C" int cuDeviceGetCount(int* count) { return cudaGetDeviceCount(count); }

const char* cudaGetErrorString(cudaError_t) { return "invalid value"; }
cudaError_t cudaGetDeviceCount(int* count) {
    *count = std::getenv("FAKE_NO_DEVICE") == nullptr ? 1 : 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    *properties = {"a \"fake\" device", 9, 0, 132, 1 << 20};
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 1 << 10;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    *memory = std::calloc(1, bytes);  // zeros: what an unpoisoned output would show
    return cudaSuccess;
}
cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
    return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    fakeLaunch(stream, [=] { std::memset(to, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = new FakeStream;
    return cudaSuccess;
}
// As CUDA: a capture does not survive it.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return stream->capturing ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    stream->captured.clear();
    stream->capturing = true;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    stream->capturing = false;
    *graph = new FakeGraph{stream->captured};
    return stream->captured.empty() ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
    *ready = new FakeGraph(*graph);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    for (const auto& call : graph->calls) fakeLaunch(stream, call);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return *event = new FakeEvent, cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    event->ms = std::chrono::duration<double, std::milli>(now).count();
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
    *ms = static_cast<float>(end->ms - begin->ms);
    return cudaSuccess;
}

// As much of TensorRT's interface as the runner calls, so that it runs where no TensorRT is.
// A model is a text: one tensor a line, `input NAME TYPE SIZES` or `output NAME TYPE SIZES`, and
// `plugin NAME` for a layer that needs a plugin library. The engine is that text again; every
// output repeats the bytes of the first input, each raised by one.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#ifndef NV_TENSORRT_MAJOR
#define NV_TENSORRT_MAJOR 10
#endif
#define NV_TENSORRT_MINOR 6
#define NV_TENSORRT_VERSION (NV_TENSORRT_MAJOR * (NV_TENSORRT_MAJOR >= 10 ? 10000 : 1000) + 600)

namespace nvinfer1 {

using AsciiChar = char;

struct Dims {
    static constexpr std::int32_t MAX_DIMS = 8;
    std::int32_t nbDims;
    std::int64_t d[MAX_DIMS];
};

enum class DataType : std::int32_t { kFLOAT, kHALF, kINT8, kINT32, kBOOL, kUINT8, kFP8, kINT64 };
enum class TensorIOMode { kNONE, kINPUT, kOUTPUT };
enum class OptProfileSelector { kMIN, kOPT, kMAX };
enum class MemoryPoolType { kWORKSPACE };
enum class ProfilingVerbosity { kDETAILED };
enum class BuilderFlag { kFP16, kTF32, kPREFER_PRECISION_CONSTRAINTS };
enum class TacticSource { kEDGE_MASK_CONVOLUTIONS, kJIT_CONVOLUTIONS };
enum class NetworkDefinitionCreationFlag { kEXPLICIT_BATCH, kSTRONGLY_TYPED };
enum class LayerInformationFormat { kJSON };

struct ILogger {
    enum class Severity : std::int32_t { kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE };
    virtual void log(Severity severity, const AsciiChar* message) noexcept = 0;
    virtual ~ILogger() = default;
};
struct IProfiler {
    virtual void reportLayerTime(const char* layer, float ms) noexcept = 0;
    virtual ~IProfiler() = default;
};
struct IPluginRegistry {
    virtual void* loadLibrary(const AsciiChar* path) noexcept = 0;
};

struct ITensor {
    virtual const char* getName() const noexcept = 0;
    virtual Dims getDimensions() const noexcept = 0;
    virtual DataType getType() const noexcept = 0;
};
struct ILayer {
    virtual const char* getName() const noexcept = 0;
    virtual void setPrecision(DataType type) noexcept = 0;
    virtual std::int32_t getNbOutputs() const noexcept = 0;
    virtual ITensor* getOutput(std::int32_t index) const noexcept = 0;
    virtual void setOutputType(std::int32_t index, DataType type) noexcept = 0;
};
struct INetworkDefinition {
    virtual ~INetworkDefinition() = default;
    virtual std::int32_t getNbInputs() const noexcept = 0;
    virtual std::int32_t getNbOutputs() const noexcept = 0;
    virtual std::int32_t getNbLayers() const noexcept = 0;
    virtual ITensor* getInput(std::int32_t index) const noexcept = 0;
    virtual ILayer* getLayer(std::int32_t index) const noexcept = 0;
};
struct IOptimizationProfile {
    virtual bool setDimensions(const char* name, OptProfileSelector which,
                               const Dims& dims) noexcept = 0;
};
struct IHostMemory {
    virtual ~IHostMemory() = default;
    virtual void* data() const noexcept = 0;
    virtual std::size_t size() const noexcept = 0;
};
struct ITimingCache {
    virtual ~ITimingCache() = default;
    virtual IHostMemory* serialize() const noexcept = 0;
};
struct IBuilderConfig {
    virtual ~IBuilderConfig() = default;
    virtual void setMemoryPoolLimit(MemoryPoolType pool, std::size_t bytes) noexcept = 0;
    virtual void setProfilingVerbosity(ProfilingVerbosity verbosity) noexcept = 0;
    virtual void setFlag(BuilderFlag flag) noexcept = 0;
    virtual void clearFlag(BuilderFlag flag) noexcept = 0;
    virtual bool setTacticSources(std::uint32_t sources) noexcept = 0;
    virtual std::int32_t addOptimizationProfile(const IOptimizationProfile* profile) noexcept = 0;
    virtual ITimingCache* createTimingCache(const void* blob, std::size_t size) const noexcept = 0;
    virtual bool setTimingCache(const ITimingCache& cache, bool ignoreMismatch) noexcept = 0;
};
struct IBuilder {
    virtual ~IBuilder() = default;
    virtual INetworkDefinition* createNetworkV2(std::uint32_t flags) noexcept = 0;
    virtual IBuilderConfig* createBuilderConfig() noexcept = 0;
    virtual IOptimizationProfile* createOptimizationProfile() noexcept = 0;
    virtual IHostMemory* buildSerializedNetwork(INetworkDefinition& network,
                                                IBuilderConfig& config) noexcept = 0;
};
struct IExecutionContext {
    virtual ~IExecutionContext() = default;
    virtual bool setInputShape(const char* name, const Dims& dims) noexcept = 0;
    virtual Dims getTensorShape(const char* name) const noexcept = 0;
    virtual bool setTensorAddress(const char* name, void* data) noexcept = 0;
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
    virtual void setProfiler(IProfiler* profiler) noexcept = 0;
};
struct IEngineInspector {
    virtual ~IEngineInspector() = default;
    virtual bool setExecutionContext(const IExecutionContext* context) noexcept = 0;
    virtual const char* getEngineInformation(LayerInformationFormat format) const noexcept = 0;
};
struct ICudaEngine {
    virtual ~ICudaEngine() = default;
    virtual IExecutionContext* createExecutionContext() noexcept = 0;
    virtual IEngineInspector* createEngineInspector() const noexcept = 0;
    virtual std::int32_t getNbIOTensors() const noexcept = 0;
    virtual const char* getIOTensorName(std::int32_t index) const noexcept = 0;
    virtual TensorIOMode getTensorIOMode(const char* name) const noexcept = 0;
    virtual DataType getTensorDataType(const char* name) const noexcept = 0;
};
struct IRuntime {
    virtual ~IRuntime() = default;
    virtual ICudaEngine* deserializeCudaEngine(const void* blob, std::size_t size) noexcept = 0;
};

}  // namespace nvinfer1

extern "C" std::int32_t getInferLibVersion() noexcept;
extern "C" nvinfer1::IPluginRegistry* getPluginRegistry() noexcept;
extern "C" void* createInferBuilder_INTERNAL(void* logger, std::int32_t version) noexcept;
extern "C" void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept;

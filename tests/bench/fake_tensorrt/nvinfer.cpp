// libnvinfer and libnvonnxparser of the fake; NvInfer.h says what its models are.
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "NvOnnxParser.h"

using namespace nvinfer1;

namespace {

bool pluginsLoaded = false;

struct Tensor final : ITensor {
    std::string name;
    DataType type{};
    Dims dims{};
    bool isOutput = false;
    const char* getName() const noexcept override { return name.c_str(); }
    Dims getDimensions() const noexcept override { return dims; }
    DataType getType() const noexcept override { return type; }
};

struct Layer final : ILayer {
    std::string name;
    const char* getName() const noexcept override { return name.c_str(); }
    void setPrecision(DataType) noexcept override {}
    std::int32_t getNbOutputs() const noexcept override { return 0; }
    ITensor* getOutput(std::int32_t) const noexcept override { return nullptr; }
    void setOutputType(std::int32_t, DataType) noexcept override {}
};

struct Network final : INetworkDefinition {
    std::string text;
    std::vector<Tensor> inputs, outputs;
    std::vector<Layer> layers;

    bool read(const std::string& source) {
        text = source;
        const std::map<std::string, DataType> types = {{"float32", DataType::kFLOAT},
                                                       {"float16", DataType::kHALF},
                                                       {"int32", DataType::kINT32}};
        std::istringstream lines(source);
        for (std::string kind, name; lines >> kind >> name;) {
            if (kind == "plugin") {
                Layer layer;
                layer.name = name;
                layers.push_back(layer);
                continue;
            }
            if (kind != "input" && kind != "output") return false;
            Tensor tensor;
            std::string type, sizes, rest;
            lines >> type;
            std::getline(lines, sizes);
            std::istringstream numbers(sizes);
            for (std::int64_t n; numbers >> n;) tensor.dims.d[tensor.dims.nbDims++] = n;
            tensor.name = name;
            tensor.type = types.at(type);
            tensor.isOutput = kind == "output";
            (tensor.isOutput ? outputs : inputs).push_back(tensor);
        }
        return true;
    }
    std::int32_t getNbInputs() const noexcept override { return static_cast<int>(inputs.size()); }
    std::int32_t getNbOutputs() const noexcept override { return static_cast<int>(outputs.size()); }
    std::int32_t getNbLayers() const noexcept override { return static_cast<int>(layers.size()); }
    ITensor* getInput(std::int32_t i) const noexcept override {
        return const_cast<Tensor*>(&inputs[static_cast<std::size_t>(i)]);
    }
    ILayer* getLayer(std::int32_t i) const noexcept override {
        return const_cast<Layer*>(&layers[static_cast<std::size_t>(i)]);
    }
};

struct Memory final : IHostMemory {
    std::string bytes;
    explicit Memory(std::string text) : bytes(std::move(text)) {}
    void* data() const noexcept override { return const_cast<char*>(bytes.data()); }
    std::size_t size() const noexcept override { return bytes.size(); }
};

struct Cache final : ITimingCache {
    IHostMemory* serialize() const noexcept override { return new Memory("timings"); }
};

struct Profile final : IOptimizationProfile {
    bool setDimensions(const char*, OptProfileSelector, const Dims&) noexcept override {
        return true;
    }
};

struct Config final : IBuilderConfig {
    void setMemoryPoolLimit(MemoryPoolType, std::size_t) noexcept override {}
    void setProfilingVerbosity(ProfilingVerbosity) noexcept override {}
    void setFlag(BuilderFlag) noexcept override {}
    void clearFlag(BuilderFlag) noexcept override {}
    bool setTacticSources(std::uint32_t) noexcept override { return true; }
    std::int32_t addOptimizationProfile(const IOptimizationProfile*) noexcept override { return 0; }
    ITimingCache* createTimingCache(const void* blob, std::size_t size) const noexcept override {
        const std::string text(static_cast<const char*>(blob), size);
        return text.empty() || text == "timings" ? new Cache : nullptr;
    }
    bool setTimingCache(const ITimingCache&, bool) noexcept override { return true; }
};

struct Builder final : IBuilder {
    Profile profile;
    INetworkDefinition* createNetworkV2(std::uint32_t) noexcept override { return new Network; }
    IBuilderConfig* createBuilderConfig() noexcept override { return new Config; }
    IOptimizationProfile* createOptimizationProfile() noexcept override { return &profile; }
    IHostMemory* buildSerializedNetwork(INetworkDefinition& network,
                                        IBuilderConfig&) noexcept override {
        return new Memory(static_cast<Network&>(network).text);
    }
};

struct Context final : IExecutionContext {
    Network network;
    std::map<std::string, void*> addresses;
    IProfiler* profiler = nullptr;
    bool settled = false;

    std::vector<Tensor*> tensors() {
        std::vector<Tensor*> all;
        for (Tensor& tensor : network.inputs) all.push_back(&tensor);
        for (Tensor& tensor : network.outputs) all.push_back(&tensor);
        return all;
    }
    static std::size_t bytesOf(const Tensor& tensor) {
        std::size_t bytes = tensor.type == DataType::kHALF ? 2 : 4;
        for (int i = 0; i < tensor.dims.nbDims; ++i) {
            bytes *= static_cast<std::size_t>(tensor.dims.d[i]);
        }
        return bytes;
    }
    bool setInputShape(const char* name, const Dims& dims) noexcept override {
        for (Tensor* tensor : tensors()) {
            if (tensor->isOutput || tensor->name == name) tensor->dims = dims;
        }
        return true;
    }
    Dims getTensorShape(const char* name) const noexcept override {
        for (Tensor* tensor : const_cast<Context*>(this)->tensors()) {
            if (tensor->name == name) return tensor->dims;
        }
        return {};
    }
    bool setTensorAddress(const char* name, void* data) noexcept override {
        addresses[name] = data;
        settled = false;
        return true;
    }
    // As TensorRT: the first enqueue behind a change of addresses cannot be captured.
    bool enqueueV3(cudaStream_t stream) noexcept override {
        if (stream->capturing && !settled) return false;
        settled = true;
        const Tensor& source = network.inputs[0];
        const auto* from = static_cast<const unsigned char*>(addresses[source.name]);
        const std::size_t size = bytesOf(source);
        for (const Tensor& tensor : network.outputs) {
            auto* to = static_cast<unsigned char*>(addresses[tensor.name]);
            const std::size_t bytes = bytesOf(tensor);
            fakeLaunch(stream, [=] {
                for (std::size_t i = 0; i < bytes && i < size; ++i) {
                    to[i] = static_cast<unsigned char>(from[i] + 1);
                }
            });
        }
        if (profiler != nullptr) profiler->reportLayerTime("first \"layer\"", 0.5F);
        if (profiler != nullptr) profiler->reportLayerTime("second", 0.25F);
        return true;
    }
    void setProfiler(IProfiler* given) noexcept override { profiler = given; }
};

struct Inspector final : IEngineInspector {
    bool setExecutionContext(const IExecutionContext*) noexcept override { return true; }
    const char* getEngineInformation(LayerInformationFormat) const noexcept override {
        return "{\"Layers\": []}";
    }
};

struct Engine final : ICudaEngine {
    Network network;
    const Tensor& tensor(const char* name) const {
        for (const auto* list : {&network.inputs, &network.outputs}) {
            for (const Tensor& one : *list) {
                if (one.name == name) return one;
            }
        }
        return network.inputs[0];
    }
    IExecutionContext* createExecutionContext() noexcept override {
        auto* context = new Context;
        context->network = network;
        return context;
    }
    IEngineInspector* createEngineInspector() const noexcept override { return new Inspector; }
    std::int32_t getNbIOTensors() const noexcept override {
        return network.getNbInputs() + network.getNbOutputs();
    }
    const char* getIOTensorName(std::int32_t index) const noexcept override {
        const auto i = static_cast<std::size_t>(index), inputs = network.inputs.size();
        return (i < inputs ? network.inputs[i] : network.outputs[i - inputs]).name.c_str();
    }
    TensorIOMode getTensorIOMode(const char* name) const noexcept override {
        return tensor(name).isOutput ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT;
    }
    DataType getTensorDataType(const char* name) const noexcept override {
        return tensor(name).type;
    }
};

struct Runtime final : IRuntime {
    ILogger* logger;
    explicit Runtime(ILogger* given) : logger(given) {}
    ICudaEngine* deserializeCudaEngine(const void* blob, std::size_t size) noexcept override {
        auto* engine = new Engine;
        const bool read = engine->network.read(std::string(static_cast<const char*>(blob), size));
        if (read && (engine->network.layers.empty() || pluginsLoaded)) return engine;
        logger->log(ILogger::Severity::kERROR, "no creator for the plugin");
        delete engine;
        return nullptr;
    }
};

struct Registry final : IPluginRegistry {
    void* loadLibrary(const AsciiChar* path) noexcept override {
        pluginsLoaded = std::strstr(path, "plugins") != nullptr;
        return pluginsLoaded ? this : nullptr;
    }
};

struct ParserError final : nvonnxparser::IParserError {
    const char* desc() const override { return "no such op"; }
    int node() const override { return 3; }
};

struct Parser final : nvonnxparser::IParser {
    Network* network;
    ParserError error;
    bool failed = false;
    explicit Parser(Network* given) : network(given) {}
    bool parseFromFile(const char* path, int) noexcept override {
        std::ifstream file(path);
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        failed = !network->read(text);
        return !failed;
    }
    int getNbErrors() const noexcept override { return failed ? 1 : 0; }
    const nvonnxparser::IParserError* getError(int) const noexcept override { return &error; }
};

}  // namespace

extern "C" std::int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }
extern "C" IPluginRegistry* getPluginRegistry() noexcept {
    static Registry registry;
    return &registry;
}
extern "C" void* createInferBuilder_INTERNAL(void*, std::int32_t) noexcept {
    return static_cast<IBuilder*>(new Builder);
}
extern "C" void* createInferRuntime_INTERNAL(void* logger, std::int32_t) noexcept {
    return static_cast<IRuntime*>(new Runtime(static_cast<ILogger*>(logger)));
}
extern "C" void* createNvOnnxParser_INTERNAL(void* network, void*, int) noexcept {
    auto* real = static_cast<Network*>(static_cast<INetworkDefinition*>(network));
    return static_cast<nvonnxparser::IParser*>(new Parser(real));
}

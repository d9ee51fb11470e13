// ONNX in, engine out.
#pragma once

#include <algorithm>
#include <chrono>
#include <set>
#include <sstream>

#include "options.hpp"
#include "tensorrt.hpp"

inline void parseModel(TensorRt& trt, nvinfer1::INetworkDefinition& network,
                       nvonnxparser::IParser& parser, const std::string& path) {
    const int level = static_cast<int>(nvinfer1::ILogger::Severity::kWARNING);
    if (parser.parseFromFile(path.c_str(), level) && network.getNbOutputs() > 0) return;
    std::string why;
    for (int i = 0; i < parser.getNbErrors(); ++i) {
        const auto* error = parser.getError(i);
        why += ": node " + std::to_string(error->node()) + ": " + error->desc();
    }
    throw Failure("TensorRT's parser refuses " + path + (why.empty() ? trt.logger.cause() : why));
}

inline void addProfile(const Options& o, nvinfer1::IBuilder& builder,
                       nvinfer1::INetworkDefinition& network, nvinfer1::IBuilderConfig& config) {
    using nvinfer1::OptProfileSelector;
    nvinfer1::IOptimizationProfile* profile = nullptr;
    for (int i = 0; i < network.getNbInputs(); ++i) {
        const nvinfer1::ITensor* input = network.getInput(i);
        const nvinfer1::Dims dims = input->getDimensions();
        if (std::none_of(dims.d, dims.d + dims.nbDims, [](auto d) { return d < 0; })) continue;
        const std::string name = input->getName();
        const auto shape = o.shapes.find(name);
        if (shape == o.shapes.end()) {
            throw Failure("the input " + name + " is dynamic and needs a --shape");
        }
        if (profile == nullptr) profile = builder.createOptimizationProfile();
        const OptProfileSelector selectors[] = {OptProfileSelector::kMIN, OptProfileSelector::kOPT,
                                                OptProfileSelector::kMAX};
        for (std::size_t s = 0; s < 3; ++s) {
            if (!profile->setDimensions(name.c_str(), selectors[s], shape->second[s])) {
                throw Failure("the input " + name + " cannot have the --shape that is asked for");
            }
        }
    }
    if (profile != nullptr && config.addOptimizationProfile(profile) < 0) {
        throw Failure("TensorRT refuses the shapes: they contradict each other");
    }
}

// Before TensorRT 10 the builder is free to halve any layer. The layers named here state float32
// in the model, and are asked to stay so; from 10 on the model's own types rule.
inline int keepFloat32(const Options& o, nvinfer1::INetworkDefinition& network,
                       nvinfer1::IBuilderConfig& config) {
    int kept = 0;
#if NV_TENSORRT_MAJOR < 10
    if (!o.fp16 || o.float32Layers.empty()) return 0;
    const std::vector<char> text = readFile(o.float32Layers);
    std::istringstream lines(std::string(text.begin(), text.end()));
    std::set<std::string> names;
    for (std::string line; std::getline(lines, line);) names.insert(line);
    for (int i = 0; i < network.getNbLayers(); ++i) {
        nvinfer1::ILayer* layer = network.getLayer(i);
        if (names.count(layer->getName()) == 0) continue;
        layer->setPrecision(nvinfer1::DataType::kFLOAT);
        for (int k = 0; k < layer->getNbOutputs(); ++k) {
            if (layer->getOutput(k)->getType() == nvinfer1::DataType::kFLOAT) {
                layer->setOutputType(k, nvinfer1::DataType::kFLOAT);
            }
        }
        ++kept;
    }
    config.setFlag(nvinfer1::BuilderFlag::kPREFER_PRECISION_CONSTRAINTS);
#else
    (void)o, (void)network, (void)config;
#endif
    return kept;
}

inline void setTactics(nvinfer1::IBuilderConfig& config) {
#if NV_TENSORRT_MAJOR < 10
    // Later versions leave cuBLAS alone unless asked. Where it is missing, asking is an error.
    if (dlopen("libcublas.so.12", RTLD_LAZY) != nullptr) return;
    using nvinfer1::TacticSource;
    config.setTacticSources(1U << static_cast<unsigned>(TacticSource::kEDGE_MASK_CONVOLUTIONS) |
                            1U << static_cast<unsigned>(TacticSource::kJIT_CONVOLUTIONS));
#else
    (void)config;
#endif
}

inline std::string build(TensorRt& trt, const Options& o) {
    const auto started = std::chrono::steady_clock::now();
    const auto builder = trt.builder();
    unsigned flags = 0;
#if NV_TENSORRT_MAJOR < 10
    flags = 1U << static_cast<unsigned>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif NV_TENSORRT_MAJOR == 10
    flags = 1U << static_cast<unsigned>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#endif
    const std::unique_ptr<nvinfer1::INetworkDefinition> network(builder->createNetworkV2(flags));
    if (!network) throw Failure("TensorRT makes no network" + trt.logger.cause());
    const auto parser = trt.parser(*network);
    parseModel(trt, *network, *parser, o.files[0]);
    const std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
    if (!config) throw Failure("TensorRT makes no configuration" + trt.logger.cause());
    config->setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, o.workspaceMiB << 20);
    config->setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
    if (!o.tf32) config->clearFlag(nvinfer1::BuilderFlag::kTF32);
#if NV_TENSORRT_MAJOR < 10
    if (o.fp16) config->setFlag(nvinfer1::BuilderFlag::kFP16);
#endif
    const int kept = keepFloat32(o, *network, *config);
    setTactics(*config);
    addProfile(o, *builder, *network, *config);

    std::unique_ptr<nvinfer1::ITimingCache> cache;
    if (!o.cache.empty()) {
        std::vector<char> blob;
        if (std::ifstream(o.cache)) blob = readFile(o.cache);
        cache.reset(config->createTimingCache(blob.data(), blob.size()));
        if (!cache || !config->setTimingCache(*cache, false)) {
            throw Failure("TensorRT refuses the timing cache " + o.cache + trt.logger.cause());
        }
    }
    const std::unique_ptr<nvinfer1::IHostMemory> plan(
        builder->buildSerializedNetwork(*network, *config));
    if (!plan) throw Failure("TensorRT builds no engine" + trt.logger.cause());
    writeFile(o.files[1], plan->data(), plan->size());
    if (cache) {
        const std::unique_ptr<nvinfer1::IHostMemory> blob(cache->serialize());
        if (blob) writeFile(o.cache, blob->data(), blob->size());
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
    return json::Node('{')
        .add("seconds", json::number(seconds.count()))
        .add("engine_bytes", std::to_string(plan->size()))
        .add("network_layers", std::to_string(network->getNbLayers()))
        .add("float32_layers", std::to_string(kept))
        .str();
}

// A deserialized engine with its context, and as many sets of input and output buffers as asked.
#pragma once

#include <algorithm>
#include <map>

#include "options.hpp"
#include "tensorrt.hpp"

struct IoTensor {
    std::string name;
    nvinfer1::DataType type;
    nvinfer1::Dims dims;
    std::size_t bytes;
    bool isOutput;
};

struct TypeInfo {
    std::size_t bytes;
    const char* numpyName;
};

inline TypeInfo infoOf(nvinfer1::DataType type) {
    using nvinfer1::DataType;
    switch (type) {
        case DataType::kFLOAT:
            return {4, "float32"};
        case DataType::kHALF:
            return {2, "float16"};
        case DataType::kINT32:
            return {4, "int32"};
        case DataType::kINT8:
            return {1, "int8"};
        case DataType::kUINT8:
            return {1, "uint8"};
        case DataType::kBOOL:
            return {1, "bool"};
#if NV_TENSORRT_MAJOR >= 10
        case DataType::kINT64:
            return {8, "int64"};
#endif
        default:
            throw Failure("an input or output has a type that the runner does not handle");
    }
}

// Adds up what TensorRT reports of each layer.
class LayerTimes final : public nvinfer1::IProfiler {
public:
    void reportLayerTime(const char* layer, float ms) noexcept override {
        const auto [at, isNew] = total_.emplace(layer, 0.0);
        if (isNew) order_.push_back(layer);
        at->second += ms;
    }
    std::string str(int runs) const {
        json::Node list('[');
        for (const std::string& name : order_) {
            list.add(json::Node('{')
                         .add("layer", json::text(name))
                         .add("ms", json::number(total_.at(name) / runs))
                         .str());
        }
        return list.str();
    }

private:
    std::map<std::string, double> total_;
    std::vector<std::string> order_;
};

class Session {
public:
    Session(TensorRt& trt, const std::string& path, const Options& o) : runtime_(trt.runtime()) {
        const std::vector<char> plan = readFile(path);
        engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
        if (!engine_) throw Failure("TensorRT does not load " + path + trt.logger.cause());
        context_.reset(engine_->createExecutionContext());
        if (!context_) throw Failure("TensorRT makes no context for " + path + trt.logger.cause());
        for (int i = 0; i < engine_->getNbIOTensors(); ++i) {
            const char* name = engine_->getIOTensorName(i);
            const bool isOutput =
                engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kOUTPUT;
            const auto shape = o.shapes.find(name);
            if (!isOutput && shape != o.shapes.end() &&
                !context_->setInputShape(name, shape->second[1])) {
                throw Failure(std::string("the engine refuses the --shape of ") + name);
            }
        }
        for (int i = 0; i < engine_->getNbIOTensors(); ++i) addTensor(engine_->getIOTensorName(i));
        checkCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() {
        cudaStreamSynchronize(stream_);
        for (const cudaGraphExec_t graph : graphs_) cudaGraphExecDestroy(graph);
        for (const auto& set : sets_) {
            for (void* buffer : set) cudaFree(buffer);
        }
        cudaStreamDestroy(stream_);
    }

    const std::vector<IoTensor>& tensors() const { return tensors_; }
    cudaStream_t stream() const { return stream_; }
    std::size_t sets() const { return sets_.size(); }

    std::size_t bytesOfSet() const {
        std::size_t bytes = 0;
        for (const IoTensor& tensor : tensors_) bytes += tensor.bytes;
        return bytes;
    }

    void addSet() {
        std::vector<void*> buffers(tensors_.size());
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            checkCuda(cudaMalloc(&buffers[i], std::max<std::size_t>(tensors_[i].bytes, 1)),
                      "allocating a buffer");
        }
        sets_.push_back(std::move(buffers));
    }

    // The same inputs into every set: FOLDER has one raw file for each.
    void upload(const std::string& folder) {
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            if (tensors_[i].isOutput) continue;
            const std::string path = fileOf(folder, tensors_[i].name);
            const std::vector<char> data = readFile(path);
            if (data.size() != tensors_[i].bytes) {
                throw Failure(path + " has " + std::to_string(data.size()) + " bytes, the input " +
                              std::to_string(tensors_[i].bytes));
            }
            for (const auto& set : sets_) {
                checkCuda(cudaMemcpy(set[i], data.data(), data.size(), cudaMemcpyHostToDevice),
                          "copying an input");
            }
        }
        // The copy of pageable memory may still be under way, and our stream would not wait.
        checkCuda(cudaDeviceSynchronize(), "waiting for the inputs");
    }

    // All bits set: NaN in every float format, -1 in integers, so an unwritten element shows.
    void poison() {
        for (const auto& set : sets_) {
            for (std::size_t i = 0; i < tensors_.size(); ++i) {
                if (tensors_[i].isOutput) {
                    checkCuda(cudaMemsetAsync(set[i], 0xFF, tensors_[i].bytes, stream_),
                              "poisoning an output");
                }
            }
        }
    }

    void download(const std::string& folder) {
        checkCuda(cudaStreamSynchronize(stream_), "running the engine");
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            if (!tensors_[i].isOutput) continue;
            std::vector<char> data(tensors_[i].bytes);
            checkCuda(cudaMemcpy(data.data(), sets_[0][i], data.size(), cudaMemcpyDeviceToHost),
                      "copying an output");
            writeFile(fileOf(folder, tensors_[i].name), data.data(), data.size());
        }
    }

    void bind(std::size_t set) {
        for (std::size_t i = 0; i < tensors_.size(); ++i) {
            if (!context_->setTensorAddress(tensors_[i].name.c_str(), sets_[set][i])) {
                throw Failure("the engine refuses the address of " + tensors_[i].name);
            }
        }
    }

    void enqueue() {
        if (!context_->enqueueV3(stream_)) throw Failure("the engine could not be enqueued");
    }

    // One graph for each set. The first enqueue behind a change of addresses may allocate, which a
    // capture does not survive, so it comes before.
    void capture() {
        for (std::size_t set = 0; set < sets_.size(); ++set) {
            bind(set);
            enqueue();
            checkCuda(cudaStreamSynchronize(stream_), "running the engine before its capture");
            cudaGraph_t graph{};
            checkCuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                      "beginning a capture");
            enqueue();
            checkCuda(cudaStreamEndCapture(stream_, &graph), "capturing the engine");
            cudaGraphExec_t ready{};
            checkCuda(cudaGraphInstantiate(&ready, graph, 0), "instantiating the graph");
            graphs_.push_back(ready);
            cudaGraphDestroy(graph);
        }
    }

    void launch(std::size_t set) {
        checkCuda(cudaGraphLaunch(graphs_[set], stream_), "launching the graph");
    }

    // The last thing to ask of a session: the profiler stays.
    std::string layerTimes(int runs) {
        context_->setProfiler(&layerTimes_);
        for (int i = 0; i < runs; ++i) {
            enqueue();
            checkCuda(cudaStreamSynchronize(stream_), "profiling the engine");
        }
        return layerTimes_.str(runs);
    }

    std::string layerInformation() {
        const std::unique_ptr<nvinfer1::IEngineInspector> inspector(
            engine_->createEngineInspector());
        if (!inspector) throw Failure("the engine has no inspector");
        inspector->setExecutionContext(context_.get());
        return inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON);
    }

private:
    // In this order: a context goes before its profiler and its engine, both before the runtime.
    LayerTimes layerTimes_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::vector<IoTensor> tensors_;
    std::vector<std::vector<void*>> sets_;
    std::vector<cudaGraphExec_t> graphs_;
    cudaStream_t stream_{};

    void addTensor(const char* name) {
        IoTensor tensor{name, engine_->getTensorDataType(name), context_->getTensorShape(name), 0,
                        engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kOUTPUT};
        tensor.bytes = infoOf(tensor.type).bytes;
        for (int k = 0; k < tensor.dims.nbDims; ++k) {
            if (tensor.dims.d[k] < 0) {
                throw Failure("the size of " + tensor.name + " is open: an input needs a --shape");
            }
            tensor.bytes *= static_cast<std::size_t>(tensor.dims.d[k]);
        }
        tensors_.push_back(std::move(tensor));
    }
};

#include "backends/tensorrt/engine.hpp"

#include <algorithm>

#include "backends/tensorrt/plan_header.hpp"

namespace pagdeploy::runtime {

namespace {

constexpr auto kRebuild = "Build it again here with 'pagdeploy build --from-bundle'.";

std::int32_t dtypeOf(nvinfer1::DataType type) {
    switch (type) {
        case nvinfer1::DataType::kFLOAT:
            return PAG_FLOAT32;
        case nvinfer1::DataType::kHALF:
            return PAG_FLOAT16;
        case nvinfer1::DataType::kINT8:
            return PAG_INT8;
        case nvinfer1::DataType::kINT32:
            return PAG_INT32;
        case nvinfer1::DataType::kBOOL:
            return PAG_BOOL;
        case nvinfer1::DataType::kUINT8:
            return PAG_UINT8;
#if NV_TENSORRT_MAJOR >= 10
        case nvinfer1::DataType::kBF16:
            return PAG_BFLOAT16;
        case nvinfer1::DataType::kINT64:
            return PAG_INT64;
#endif
        default:
            return 0;
    }
}

}  // namespace

TrtEngine::TrtEngine(const BackendEngineSpec& spec)
    : log_(TensorRtLog::lend(spec.log, spec.log_user)), device_(spec.device) {
    if (spec.version_compatible && !spec.allow_host_code) {
        throw Refusal(PAG_USAGE,
                      "The plan is version-compatible: it holds code that would run in this process.",
                      "Set pag_engine_options.allow_host_code if you trust whoever built it.");
    }
    name_ = checkedName(spec);
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || device_ < 0 || device_ >= count) {
        throw Refusal(PAG_ENVIRONMENT,
                      "The plan needs an NVIDIA GPU, and there is no number " + std::to_string(device_) +
                          " here.",
                      "Run 'pagdeploy doctor' to see why.");
    }
    const UsedDevice device = useDevice();
    for (std::size_t i = 0; i < spec.library_count; ++i) {
        loadPlugins(spec.libraries[i], *log_);
    }
    runtime_.reset(makeRuntime(*log_));
    if (runtime_ == nullptr) {
        throw Refusal(PAG_ENVIRONMENT, name_ + " cannot be started" + log_->takeCause() + ".",
                      "Run 'pagdeploy doctor' to see why.");
    }
    runtime_->setEngineHostCodeAllowed(spec.allow_host_code);
    plan_.reset(runtime_->deserializeCudaEngine(spec.engine_data, spec.engine_bytes));
    if (plan_ == nullptr) {
        throw Refusal(PAG_INCOMPATIBLE, name_ + " refuses the plan" + log_->takeCause() + ".", kRebuild);
    }
    for (std::size_t i = 0; i < spec.input_count; ++i) {
        inputs_.push_back(described(spec.inputs[i], nvinfer1::TensorIOMode::kINPUT));
    }
    for (std::size_t i = 0; i < spec.output_count; ++i) {
        outputs_.push_back(described(spec.outputs[i], nvinfer1::TensorIOMode::kOUTPUT));
    }
}

// A plan belongs to the version that built it, unless it was built to move on to later ones.
std::string TrtEngine::checkedName(const BackendEngineSpec& spec) {
    const PlanVersion built = readPlanHeader(spec.engine_data, spec.engine_bytes);
    openTensorRt(spec.runtime_library);
    const std::array<int, 3> found = tensorRtVersion();
    const std::array<int, 3> wanted{built.numbers[0], built.numbers[1], built.numbers[2]};
    PlanVersion here;
    std::copy(found.begin(), found.end(), here.numbers.begin());
    const std::string name = here.text().substr(0, here.text().rfind('.'));
    if (spec.version_compatible ? found < wanted : found != wanted) {
        throw Refusal(PAG_INCOMPATIBLE,
                      "The plan was built with TensorRT " + built.text() + ", and " + name +
                          " is installed.",
                      kRebuild);
    }
    return "TensorRT " + name;
}

TrtEngine::Tensor TrtEngine::described(const BackendTensor& tensor, nvinfer1::TensorIOMode mode) const {
    const char* const name = tensor.name;
    bool fits = plan_->getTensorIOMode(name) == mode &&
                dtypeOf(plan_->getTensorDataType(name)) == tensor.dtype &&
                plan_->getTensorShape(name).nbDims == tensor.rank;
    // Other formats pad, so that a tensor takes more memory than its sizes say.
    for (int profile = 0; profile < plan_->getNbOptimizationProfiles(); ++profile) {
        fits = fits && plan_->getTensorFormat(name, profile) == nvinfer1::TensorFormat::kLINEAR;
    }
    if (!fits) {
        throw Refusal(PAG_INCOMPATIBLE,
                      std::string("The plan's '") + name + "' is not what the manifest says.", kRebuild);
    }
    return {name, tensor.dtype, plan_->isShapeInferenceIO(name),
            plan_->getTensorLocation(name) == nvinfer1::TensorLocation::kHOST};
}

bool TrtEngine::readsShapes() const {
    return std::any_of(inputs_.begin(), inputs_.end(),
                       [](const Tensor& input) { return input.isShape || input.isOnHost; });
}

std::unique_ptr<nvinfer1::IExecutionContext> TrtEngine::makeContext() {
    const UsedDevice device = useDevice();
    const std::lock_guard lock(making_);
    std::unique_ptr<nvinfer1::IExecutionContext> context(plan_->createExecutionContext());
    if (context == nullptr) {
        throw Refusal(PAG_ENVIRONMENT, "TensorRT makes no context" + log_->takeCause() + ".",
                      "Free memory of the GPU, or use fewer contexts.");
    }
    return context;
}

}  // namespace pagdeploy::runtime

#include "backends/tensorrt/tensorrt.hpp"

#include <dlfcn.h>

#include <new>
#include <set>
#include <vector>

namespace pagdeploy::runtime {

namespace {

constexpr auto kInstall =
    "Install TensorRT, or name its library in pag_engine_options.runtime_library.";

void* opened = nullptr;
std::mutex opening;
std::set<std::string> loadedPlugins;

template <class Function>
Function* symbol(void* library, const char* name) {
    const auto found = reinterpret_cast<Function*>(dlsym(library, name));
    if (found == nullptr) {
        throw Refusal(PAG_ENVIRONMENT, std::string("The TensorRT library has no ") + name + ".", kInstall);
    }
    return found;
}

std::array<int, 3> versionOf(void* library) {
    const int version = symbol<std::int32_t()>(library, "getInferLibVersion")();
    const int major = version / (NV_TENSORRT_MAJOR >= 10 ? 10000 : 1000);
    const int rest = version % (NV_TENSORRT_MAJOR >= 10 ? 10000 : 1000);
    return {major, rest / 100, rest % 100};
}

}  // namespace

TensorRtLog::Loan TensorRtLog::lend(pag_log log, void* user) {
    static std::mutex lending;
    static auto* const all = new std::vector<std::unique_ptr<TensorRtLog>>;  // never destroyed
    const std::lock_guard lock(lending);
    const auto lent = [&](TensorRtLog& one) {
        const std::lock_guard guard(one.mutex_);
        if (one.log_ != nullptr) {
            return false;
        }
        one.log_ = log;
        one.user_ = user;
        one.firstError_.clear();
        return true;
    };
    for (const auto& one : *all) {
        if (lent(*one)) {
            return Loan(one.get());
        }
    }
    all->push_back(std::make_unique<TensorRtLog>());
    lent(*all->back());
    return Loan(all->back().get());
}

void TensorRtLog::retire() {
    const std::lock_guard lock(mutex_);
    log_ = nullptr;
    user_ = nullptr;
}

void TensorRtLog::log(Severity severity, const char* message) noexcept {
    const std::lock_guard lock(mutex_);
    if (log_ == nullptr) {
        return;
    }
    if (severity <= Severity::kERROR && firstError_.empty()) {
        try {
            firstError_ = message;
        } catch (const std::bad_alloc&) {
            firstError_.clear();  // the caller hears it all the same
        }
    }
    if (severity <= Severity::kINFO) {
        log_(user_, severity <= Severity::kERROR ? PAG_ERROR
                    : severity == Severity::kWARNING ? PAG_WARNING : PAG_INFO,
             message);
    }
}

std::string TensorRtLog::takeCause() {
    const std::lock_guard lock(mutex_);
    std::string cause;
    cause.swap(firstError_);
    return cause.empty() ? cause : " (" + cause + ")";
}

void openTensorRt(const char* path) {
    const std::lock_guard lock(opening);
    if (opened != nullptr) {
        return;
    }
    const std::string name =
        path != nullptr ? path : "libnvinfer.so." + std::to_string(NV_TENSORRT_MAJOR);
    // Global, because plugin libraries look for TensorRT's symbols in the process.
    void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
    if (library == nullptr) {
        const char* const reason = dlerror();
        throw Refusal(PAG_ENVIRONMENT,
                      name + " cannot be used (" + (reason == nullptr ? "no reason given" : reason) + ").",
                      kInstall);
    }
    const int major = versionOf(library)[0];
    if (major != NV_TENSORRT_MAJOR) {
        throw Refusal(PAG_ENVIRONMENT,
                      name + " is TensorRT " + std::to_string(major) + ", and this back end is for " +
                          std::to_string(NV_TENSORRT_MAJOR) + ".",
                      kInstall);
    }
    opened = library;
}

std::array<int, 3> tensorRtVersion() { return versionOf(opened); }

nvinfer1::IRuntime* makeRuntime(nvinfer1::ILogger& log) {
    const auto make = symbol<void*(void*, std::int32_t)>(opened, "createInferRuntime_INTERNAL");
    return static_cast<nvinfer1::IRuntime*>(make(&log, NV_TENSORRT_VERSION));
}

void loadPlugins(const char* path, TensorRtLog& log) {
    const std::lock_guard lock(opening);
    if (loadedPlugins.count(path) > 0) {
        return;
    }
    auto* const registry = symbol<nvinfer1::IPluginRegistry*()>(opened, "getPluginRegistry")();
    if (registry == nullptr || registry->loadLibrary(path) == nullptr) {
        throw Refusal(PAG_ENVIRONMENT,
                      std::string("TensorRT refuses the plugin library ") + path + log.takeCause() + ".",
                      "Build it for this TensorRT (docs/plugins.md).");
    }
    loadedPlugins.insert(path);
}

}  // namespace pagdeploy::runtime

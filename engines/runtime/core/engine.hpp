// An engine: a back end that has loaded what a bundle holds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backends/backend.hpp"
#include "core/bundle.hpp"

namespace pagdeploy::runtime {

class Engine {
public:
    Engine(std::shared_ptr<const Bundle> bundle, const pag_engine_options& options);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    const Bundle& bundle() const { return *bundle_; }
    const Backend& backend() const { return *backend_; }
    void* handle() const { return handle_; }
    const char* runtime() const { return backend_->runtime(handle_); }
    // Whether it computes in the caller's own thread and memory.
    bool isOnCpu() const { return bundle_->manifest().flavour == "onnxruntime"; }

private:
    std::vector<std::string> libraries(const pag_engine_options& options) const;

    std::shared_ptr<const Bundle> bundle_;
    std::vector<std::string> libraryPaths_;
    std::vector<const char*> libraryNames_;
    std::vector<BackendTensor> tensors_;
    std::string runtimeLibrary_;
    const Backend* backend_ = nullptr;
    void* handle_ = nullptr;
};

// A failure that a back end described.
[[noreturn]] void throwFailure(pag_status status, const Failure& failure);

}  // namespace pagdeploy::runtime

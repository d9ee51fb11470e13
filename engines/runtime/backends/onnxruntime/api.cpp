#include "backends/onnxruntime/api.hpp"

#include <dlfcn.h>

#include <mutex>

namespace pagdeploy::runtime {

namespace {

// The oldest version whose functions are enough; later ones only append to them.
constexpr std::uint32_t kApiVersion = 18;
constexpr auto kLibrary = "libonnxruntime.so.1";
constexpr auto kInstall =
    "Install onnxruntime's shared library, or name it in pag_engine_options.runtime_library.";

const OrtApi* opened = nullptr;
std::string openedVersion;
std::mutex opening;

}  // namespace

void openOnnxRuntime(const char* path) {
    const std::lock_guard lock(opening);
    if (opened != nullptr) {
        return;
    }
    const char* const name = path != nullptr ? path : kLibrary;
    void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void* const entry = library == nullptr ? nullptr : dlsym(library, "OrtGetApiBase");
    if (entry == nullptr) {
        const char* const reason = dlerror();
        throw Refusal(PAG_ENVIRONMENT,
                      std::string(name) + " cannot be used (" +
                          (reason == nullptr ? "no reason given" : reason) + ").",
                      kInstall);
    }
    const OrtApiBase* const base = reinterpret_cast<const OrtApiBase* (*)()>(entry)();
    const OrtApi* const api = base->GetApi(kApiVersion);
    if (api == nullptr) {
        throw Refusal(PAG_ENVIRONMENT,
                      std::string("onnxruntime ") + base->GetVersionString() + " is too old.",
                      "Install 1.18 or later.");
    }
    openedVersion = base->GetVersionString();
    opened = api;
}

const OrtApi& ort() { return *opened; }
const std::string& ortVersion() { return openedVersion; }

void check(OrtStatus* status, pag_status kind, const std::string& what, const char* remedy) {
    if (status == nullptr) {
        return;
    }
    std::string reason = ort().GetErrorMessage(status);
    ort().ReleaseStatus(status);
    reason = reason.substr(0, reason.find('\n'));
    if (!reason.empty() && reason.back() == '.') {
        reason.pop_back();
    }
    throw Refusal(kind, what + " (" + reason + ").", remedy);
}

}  // namespace pagdeploy::runtime

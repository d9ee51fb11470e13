#include "core/engine.hpp"

#include <charconv>
#include <cstdlib>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include "core/files.hpp"
#include "core/problem.hpp"
#include "core/shared_library.hpp"

namespace pagdeploy::runtime {

namespace fs = std::filesystem;

namespace {

constexpr auto kOpLibraryVariable = "PAGDEPLOY_ORT_OPS";
constexpr auto kOpLibrary = "libpagdeploy_ort.so";
constexpr auto kTelemetryVariable = "ORT_DISABLE_TELEMETRY";

void logNothing(void*, std::int32_t, const char*) {}

// Official builds of onnxruntime from 1.29 on tell their makers of every session, write a number of the
// machine to its disk, and keep in memory what they could not send. Only this keeps them from it, and
// only before they are loaded; who wants it sets the variable to 0.
void declineTelemetry() {
    static std::once_flag once;
    std::call_once(once, [] { setenv(kTelemetryVariable, "1", 0); });
}

int majorOf(const Manifest& manifest) {
    int major = 0;
    const std::string& version = manifest.version;
    std::from_chars(version.data(), version.data() + version.size(), major);  // 0 where there is none
    return major;
}

// The libraries that could load the engine, best first.
std::vector<std::string> backendNames(const Manifest& manifest) {
    if (!manifest.hasPlan) {
        return {"onnxruntime"};
    }
    const std::string family = manifest.flavour == "tensorrt-rtx" ? "tensorrt_rtx" : "tensorrt";
    const int built = majorOf(manifest);
    std::vector<std::string> names{family + std::to_string(built)};
    if (manifest.versionCompatible) {
        for (const int later : {10, 11}) {
            if (later > built) {
                names.push_back(family + std::to_string(later));
            }
        }
    }
    return names;
}

// The op library of this machine, chosen as in Python (engines/ort_native.py); empty: there is none.
fs::path installedOpLibrary() {
    const char* const variable = std::getenv(kOpLibraryVariable);
    const std::string named = variable == nullptr ? "" : variable;
    if (named == "off") {
        return {};
    }
    const fs::path path = named.empty() ? folderOfThisLibrary() / kOpLibrary : fs::absolute(named);
    std::error_code error;
    if (fs::is_regular_file(path, error)) {
        return path;
    }
    if (!named.empty()) {
        throw Problem(PAG_ENVIRONMENT,
                      std::string(kOpLibraryVariable) + " names " + named + ", which is no file.",
                      "Unset it, set it to 'off', or name the built libpagdeploy_ort.so.");
    }
    return {};
}

const Backend& loadBackend(const Manifest& manifest, const char* directory) {
    const fs::path folder =
        directory != nullptr ? fs::absolute(directory) : folderOfThisLibrary();
    const std::vector<std::string> names = backendNames(manifest);
    for (const std::string& name : names) {
        const fs::path path = folder / ("libpagdeploy_backend_" + name + ".so");
        std::error_code error;
        if (!fs::is_regular_file(path, error)) {
            continue;
        }
        const auto entry = reinterpret_cast<const Backend* (*)()>(symbolOf(path, "pag_backend"));
        const Backend* const backend = entry();
        if (backend == nullptr || backend->version != kBackendVersion) {
            throw Problem(PAG_ENVIRONMENT, path.string() + " is of another version of pagdeploy.",
                          "Install runtime and back ends of one version.");
        }
        return *backend;
    }
    throw Problem(PAG_ENVIRONMENT,
                  "There is no libpagdeploy_backend_" + names.front() + ".so in " + folder.string() +
                      ", which an engine of " + manifest.flavour + " " + manifest.version + " needs.",
                  "Build it (docs/runtime.md), or name its folder in "
                  "pag_engine_options.backend_directory.");
}

}  // namespace

Engine::Engine(std::shared_ptr<const Bundle> bundle, const pag_engine_options& options)
    : bundle_(std::move(bundle)) {
    const Manifest& manifest = bundle_->manifest();
    if (!manifest.hasPlan) {
        declineTelemetry();
    }
    libraryPaths_ = libraries(options);
    if (options.threads < 0 || options.device < 0) {
        throw Problem(PAG_USAGE,
                      options.threads < 0
                          ? "The options ask for " + std::to_string(options.threads) + " threads."
                          : "The options ask for GPU " + std::to_string(options.device) + ".",
                      "Give 0, or a positive number.");
    }
    for (const std::string& path : libraryPaths_) {
        libraryNames_.push_back(path.c_str());
    }
    for (const auto* side : {&manifest.inputs, &manifest.outputs}) {
        for (const TensorSpec& tensor : *side) {
            tensors_.push_back({tensor.name.c_str(), tensor.dtype,
                                static_cast<std::int32_t>(tensor.shape.size()), tensor.shape.data()});
        }
    }
    runtimeLibrary_ = options.runtime_library != nullptr ? options.runtime_library : "";
    backend_ = &loadBackend(manifest, options.backend_directory);

    const std::string bytes = bundle_->bytesOf(manifest.engineFile);
    BackendEngineSpec spec{};
    spec.flavour = manifest.flavour.c_str();
    spec.version = manifest.version.c_str();
    spec.engine_data = bytes.data();
    spec.engine_bytes = bytes.size();
    spec.libraries = libraryNames_.data();
    spec.library_count = libraryNames_.size();
    spec.version_compatible = manifest.versionCompatible;
    spec.inputs = tensors_.data();
    spec.input_count = manifest.inputs.size();
    spec.outputs = tensors_.data() + manifest.inputs.size();
    spec.output_count = manifest.outputs.size();
    spec.runtime_library = runtimeLibrary_.empty() ? nullptr : runtimeLibrary_.c_str();
    spec.device = options.device;
    spec.threads = options.threads;
    spec.allow_host_code = options.allow_host_code != 0;
    spec.log = options.log != nullptr ? options.log : logNothing;
    spec.log_user = options.log_user;
    Failure failure{};
    const pag_status status = backend_->create_engine(&spec, &handle_, &failure);
    if (status != PAG_OK) {
        throwFailure(status, failure);
    }
}

Engine::~Engine() { backend_->release_engine(handle_); }

// This machine's own libraries come before the bundle's, which are code of whoever built it.
std::vector<std::string> Engine::libraries(const pag_engine_options& options) const {
    const Manifest& manifest = bundle_->manifest();
    const std::vector<std::string>& wanted = manifest.hasPlan ? manifest.plugins : manifest.libraries;
    if (wanted.empty()) {
        return {};
    }
    if (!manifest.hasPlan) {
        const fs::path installed = installedOpLibrary();
        if (!installed.empty()) {
            return {installed.string()};
        }
    } else {
        const std::string name = "libpagdeploy_plugins_trt" +
                                 std::to_string(majorOf(manifest)) + ".so";
        const fs::path installed = folderOfThisLibrary() / name;
        std::error_code error;
        if (wanted.size() == 1 && fs::is_regular_file(installed, error)) {
            return {installed.string()};
        }
    }
    if (options.allow_host_code == 0) {
        throw Problem(PAG_USAGE,
                      bundle_->folder().string() + " brings the library " + wanted.front() +
                          ", whose code would run in this process.",
                      "Set pag_engine_options.allow_host_code if you trust whoever built it, or install "
                      "the library beside the runtime.");
    }
    if (manifest.embedsPlugins) {
        return {};  // the plan brings them
    }
    std::vector<std::string> paths;
    for (const std::string& name : wanted) {
        paths.push_back(privateCopy(bundle_->bytesOf(name)));
    }
    return paths;
}

void throwFailure(pag_status status, const Failure& failure) {
    throw Problem(status, failure.message, failure.remedy);
}

}  // namespace pagdeploy::runtime

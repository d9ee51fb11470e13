#include "common/log.hpp"

#include <atomic>
#include <cstdio>
#include <exception>
#include <new>

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace pagdeploy {

#if PAG_TENSORRT_HAS_LOGGER_FINDER

namespace {

std::atomic<nvinfer1::ILoggerFinder*> loggerFinder{nullptr};

#if defined(__linux__)

// The major version of the TensorRT library that the object comes from; 0 if that is unknown.
// The library is found by the address of the object's vtable: hosts load TensorRT privately, so
// its functions cannot be looked up by name.
int majorVersionBehind(const void* object) {
    Dl_info owner{};
    const void* const vtable = *static_cast<const void* const*>(object);
    if (dladdr(vtable, &owner) == 0) {
        return 0;
    }
    void* const library = dlopen(owner.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (library == nullptr) {
        return 0;
    }
    const auto call = [library](const char* name) {
        using Function = std::int32_t (*)();
        auto* const function = reinterpret_cast<Function>(dlsym(library, name));
        return function == nullptr ? 0 : function();
    };
    // From 10 on there is a function for it; 8 and 9 have only the whole number, as in 8601.
    int version = call("getInferLibMajorVersion");
    if (version == 0) {
        version = call("getInferLibVersion") / 1000;
    }
    dlclose(library);
    return version;
}

#else

int majorVersionBehind(const void*) { return 0; }

#endif

}  // namespace

void keepLoggerFinder(nvinfer1::ILoggerFinder* finder) noexcept {
    const bool ours = finder != nullptr && majorVersionBehind(finder) == NV_TENSORRT_MAJOR;
    loggerFinder.store(ours ? finder : nullptr);
}

void logError(const char* op, const char* call, const char* text) noexcept {
    // The logger is asked for at every message: it may change, and a host may have none.
    nvinfer1::ILoggerFinder* const finder = loggerFinder.load();
    try {
        nvinfer1::ILogger* const logger = finder == nullptr ? nullptr : finder->findLogger();
        if (logger != nullptr) {
            char line[1024];  // no allocation: the message may be about memory
            std::snprintf(line, sizeof line, "pagdeploy: %s.%s: %s", op, call, text);
            logger->log(nvinfer1::ILogger::Severity::kERROR, line);
        }
    } catch (...) {
        // A host that throws from its logger has nobody left to tell.
    }
}

#else

void logError(const char* op, const char* call, const char* text) noexcept {
    // TensorRT 8.5 gives libraries no logger; standard error is what is left.
    std::fprintf(stderr, "pagdeploy: %s.%s: %s\n", op, call, text);
}

#endif

void logCurrentException(const char* op, const char* call) noexcept {
    try {
        throw;
    } catch (const std::bad_alloc&) {
        logError(op, call, "out of host memory");
    } catch (const std::exception& error) {
        logError(op, call, error.what());
    } catch (...) {
        logError(op, call, "unknown error");
    }
}

}  // namespace pagdeploy

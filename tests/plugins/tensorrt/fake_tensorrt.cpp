#include "fake_tensorrt.hpp"

#include <string>

namespace {

int majorVersion = NV_TENSORRT_MAJOR;
bool loggerPresent = true;
std::string messages;
std::string taken;

class Logger final : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* text) noexcept override {
        messages += (severity == Severity::kERROR ? "" : "not an error: ") + std::string(text);
        messages += "\n";
    }
};

Logger logger;

#if PAG_TENSORRT_HAS_LOGGER_FINDER
class Finder final : public nvinfer1::ILoggerFinder {
public:
    nvinfer1::ILogger* findLogger() override { return loggerPresent ? &logger : nullptr; }
};

Finder finder;
#endif

}  // namespace

#if PAG_TENSORRT_HAS_LOGGER_FINDER
nvinfer1::ILoggerFinder* fakeLoggerFinder() { return &finder; }
#endif

void fakeSetMajorVersion(int major) { majorVersion = major; }
void fakeSetLoggerPresent(bool present) { loggerPresent = present; }

const char* fakeTakeMessages() {
    taken.swap(messages);
    messages.clear();
    return taken.c_str();
}

// The names that the real library exports.
#if NV_TENSORRT_MAJOR >= 10
FAKE_TENSORRT_API std::int32_t getInferLibMajorVersion() noexcept { return majorVersion; }
#else
FAKE_TENSORRT_API std::int32_t getInferLibVersion() noexcept { return majorVersion * 1000 + 601; }
#endif

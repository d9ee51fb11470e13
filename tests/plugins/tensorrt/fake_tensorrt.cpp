#include "fake_tensorrt.hpp"

#include <cstdio>
#include <cstring>

namespace {

int majorVersion = NV_TENSORRT_MAJOR;
bool loggerPresent = true;
// Not strings: a logger must also work when there is no memory left.
char messages[1 << 14] = "";
char taken[sizeof messages] = "";

class Logger final : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* text) noexcept override {
        const char* const mark = severity == Severity::kERROR ? "" : "not an error: ";
        const std::size_t used = std::strlen(messages);
        std::snprintf(messages + used, sizeof messages - used, "%s%s\n", mark, text);
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
    std::memcpy(taken, messages, sizeof taken);
    messages[0] = '\0';
    return taken;
}

// The names that the real library exports.
#if NV_TENSORRT_MAJOR >= 10
FAKE_TENSORRT_API std::int32_t getInferLibMajorVersion() noexcept { return majorVersion; }
#else
FAKE_TENSORRT_API std::int32_t getInferLibVersion() noexcept { return majorVersion * 1000 + 601; }
#endif

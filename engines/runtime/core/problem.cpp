#include "core/problem.hpp"

#include <cstdio>

namespace pagdeploy::runtime {

namespace {

struct Report {
    char message[1024] = "";
    char remedy[512] = "";
};

thread_local Report ofThread;

}  // namespace

void report(const char* message, const char* remedy) noexcept {
    std::snprintf(ofThread.message, sizeof ofThread.message, "%s", message);
    std::snprintf(ofThread.remedy, sizeof ofThread.remedy, "%s", remedy);
}

const char* reportedMessage() noexcept { return ofThread.message; }
const char* reportedRemedy() noexcept { return ofThread.remedy; }

}  // namespace pagdeploy::runtime

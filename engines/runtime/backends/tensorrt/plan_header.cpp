#include "backends/tensorrt/plan_header.hpp"

#include <cstdint>
#include <cstring>

#include "backends/border.hpp"

namespace pagdeploy::runtime {

namespace {

constexpr std::size_t kHeaderBytes = 36;
constexpr std::size_t kSizeAt = 16;
constexpr std::size_t kVersionAt = 24;

std::uint64_t littleEndian(const unsigned char* from, int bytes) {
    std::uint64_t value = 0;
    for (int i = bytes; i-- > 0;) {
        value = value << 8 | from[i];
    }
    return value;
}

}  // namespace

std::string PlanVersion::text() const {
    std::string text;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        text += (i == 0 ? "" : ".") + std::to_string(numbers[i]);
    }
    return text;
}

PlanVersion readPlanHeader(const void* plan, std::size_t bytes) {
    const auto* const header = static_cast<const unsigned char*>(plan);
    if (bytes < kHeaderBytes || std::memcmp(header, "ftrt", 4) != 0 ||
        littleEndian(header + 4, 4) != 0) {
        throw Refusal(PAG_INCOMPATIBLE, "The bundle's engine is no plan of TensorRT 8.6 or later.",
                      "Build the bundle again.");
    }
    if (littleEndian(header + kSizeAt, 8) != bytes) {
        throw Refusal(PAG_INCOMPATIBLE, "The bundle's plan is truncated, or has something behind its end.",
                      "Copy the bundle again, or build it again.");
    }
    PlanVersion version;
    for (std::size_t i = 0; i < version.numbers.size(); ++i) {
        version.numbers[i] = header[kVersionAt + i];
    }
    return version;
}

}  // namespace pagdeploy::runtime

// The header of a plan: read before TensorRT sees a byte of it (engines/nvidia/plan.py has the layout).
#pragma once

#include <array>
#include <cstddef>
#include <string>

namespace pagdeploy::runtime {

struct PlanVersion {
    std::array<int, 4> numbers{};  // major, minor, patch, build

    std::string text() const;
};

// The version of the TensorRT that built the plan. Throws Refusal where the bytes are no whole plan of
// TensorRT 8.6 or later.
PlanVersion readPlanHeader(const void* plan, std::size_t bytes);

}  // namespace pagdeploy::runtime

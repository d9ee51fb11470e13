// Maps from channels first to channels last and back.
#pragma once

#include <cstddef>

#include "common/host.hpp"
#include "perforated_conv/cpu/instruction_set.hpp"

namespace pagdeploy::cpu {

struct MapSize {
    std::size_t images;
    std::size_t channels;
    std::size_t pixels;  // of an image
};

// (N, C, pixels) to (N, pixels, C), each value through an activation. The maps do not overlap.
void toChannelsLast(const MapSize& size, const float* from, const Bend& bend, float* to,
                    const InstructionSet& isa, Host& host);

// (N, pixels, C) to (N, C, pixels). The maps do not overlap.
void toChannelsFirst(const MapSize& size, const float* from, float* to, const InstructionSet& isa,
                     Host& host);

}  // namespace pagdeploy::cpu

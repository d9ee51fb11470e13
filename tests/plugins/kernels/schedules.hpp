// Running something under every order of threads that the emulator knows.
#pragma once

#include "emulator/simt_emulator.hpp"

namespace pagdeploy::testing {

template <typename Body>
void underEverySchedule(Body&& body) {
    const emulator::Options before = emulator::options;
    for (int i = 0; i < emulator::kSchedules; ++i) {
        emulator::options.schedule = emulator::Schedule(i);
        // Backward and last-warp-ahead let asynchronous work land at once; the others, late.
        emulator::options.landLate = i != 1 && i != 4;
        emulator::options.seed = 100u + unsigned(i);
        body();
    }
    emulator::options = before;
}

}  // namespace pagdeploy::testing

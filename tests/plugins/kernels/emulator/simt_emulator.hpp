// A CUDA block on the CPU: every CUDA thread is a fiber, and what threads do together (barriers,
// warp collectives, asynchronous copies, tensor-core products) follows the text of the PTX ISA.
// The kernels' source is the file that nvcc compiles. Slow, but it can be run under
// AddressSanitizer, and it sees what a GPU hides: an unfinished copy is poison until it lands.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

namespace pagdeploy::emulator {

// In which order the threads of a block advance. The two greedy orders let one warp run until it
// must wait: a missing barrier often shows only then.
enum class Schedule { kForward, kBackward, kShuffled, kFirstWarpAhead, kLastWarpAhead };
constexpr int kSchedules = 5;

struct Options {
    Schedule schedule = Schedule::kForward;
    // Asynchronous work takes effect at the wait; if false, at once. Both are legal on a GPU.
    bool landLate = true;
    unsigned seed = 1;
    // The device that the launchers see.
    int multiprocessors = 3;
    int sharedBytesPerBlock = 227 * 1024;
    int computeCapability = 90;
};

struct Statistics {
    std::uint64_t copiedBytes = 0;
    std::uint64_t zeroedBytes = 0;
    std::uint64_t products = 0;
    std::uint64_t matrixPhases = 0;
    std::uint64_t bankConflicts = 0;  // extra phases of ldmatrix
    std::uint64_t launches = 0;
};

inline Options options;
inline Statistics statistics;

struct AsyncCopy {
    void* target;
    const void* source;
    int bytes;
    int zeros;
};

struct Fiber;

// Threads that do something together: a warp, a warpgroup or the block.
struct Team {
    std::vector<Fiber*> members;
    std::vector<void*> arguments;
    int running = 0;  // members that have not ended
    int arrived = 0;
    std::uint64_t generation = 0;
    const char* operation = "";
};

struct Fiber {
    void* stackPointer = nullptr;
    std::unique_ptr<char[]> stack;
    void* fakeStack = nullptr;  // AddressSanitizer's
    bool done = false;
    const Team* waitingFor = nullptr;
    std::uint64_t waitingGeneration = 0;
    int thread = 0;
    int lane = 0;
    Team* warp = nullptr;
    Team* warpgroup = nullptr;
    std::vector<AsyncCopy> openCopies;
    std::vector<std::vector<AsyncCopy>> copyGroups;
};

// Asynchronous products of one warpgroup.
struct WarpgroupQueue {
    std::vector<std::function<void()>> open;
    std::vector<std::vector<std::function<void()>>> groups;
};

inline Fiber* current = nullptr;
inline Team block;
inline std::vector<WarpgroupQueue> queues;
inline unsigned char* sharedMemory = nullptr;
inline std::size_t sharedSize = 0;

struct Index3 {
    unsigned x = 0;
    unsigned y = 0;
    unsigned z = 0;
};
inline Index3 blockIndex;
inline Index3 blockSize;
inline Index3 gridSize;

// Ends the program with a message: on a GPU it would hang, fault or give wrong numbers.
[[noreturn]] void fail(const char* what);

void requireAligned(const void* address, std::size_t alignment, const char* what);
void requireShared(const void* address, std::size_t bytes, const char* what);

// Runs the kernel for every block in turn.
void launch(int blocks, int threads, int sharedBytes, const std::function<void()>& kernel);

// Hands the processor to the scheduler until the current fiber's team has moved on.
void waitForTeam(Team& team);

// All members of the team call this; the last one to arrive performs the operation on everybody's
// arguments.
template <typename Operation>
void together(Team& team, int slot, void* argument, const char* name, Operation&& operation) {
    if (team.arrived == 0) {
        team.operation = name;
        std::fill(team.arguments.begin(), team.arguments.end(), nullptr);
    }
    if (std::strcmp(team.operation, name) != 0) {
        fail("threads of one team are at different collective operations");
    }
    team.arguments[slot] = argument;
    if (++team.arrived == team.running) {
        operation(team.arguments.data());
        team.arrived = 0;
        ++team.generation;
        return;
    }
    waitForTeam(team);
}

template <typename Operation>
void inWarp(void* argument, const char* name, Operation&& operation) {
    together(*current->warp, current->lane, argument, name, operation);
}

template <typename Operation>
void inWarpgroup(void* argument, const char* name, Operation&& operation) {
    together(*current->warpgroup, current->thread & 127, argument, name, operation);
}

// `size` bytes at the target, of which the last size - bytes become zeros.
void copyAsync(void* target, const void* source, int bytes, int size = 16);
void commitCopies();
void waitForCopies(int pending);

}  // namespace pagdeploy::emulator

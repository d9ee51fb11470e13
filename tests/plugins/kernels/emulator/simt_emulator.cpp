#include "emulator/simt_emulator.hpp"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define PAG_FIBERS_UNDER_ASAN 1
#else
#define PAG_FIBERS_UNDER_ASAN 0
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace pagdeploy::emulator {

namespace {

constexpr std::size_t kStackBytes = 128 << 10;
constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;

const std::function<void()>* kernelBody = nullptr;
void* schedulerStackPointer = nullptr;
#if PAG_FIBERS_UNDER_ASAN
// The scheduler's own stack, as AddressSanitizer reports it whenever a fiber is entered.
const void* schedulerStack = nullptr;
std::size_t schedulerStackSize = 0;
#endif

[[noreturn]] void fiberMain();

}  // namespace

// Switching by hand: swapcontext costs two system calls, and a test switches millions of times.
#if defined(__x86_64__)

extern "C" void pagdeployEmulatorSwitch(void** saved, void* next);
asm(R"(
.text
.p2align 4
.type pagdeployEmulatorSwitch, @function
.globl pagdeployEmulatorSwitch
pagdeployEmulatorSwitch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size pagdeployEmulatorSwitch, .-pagdeployEmulatorSwitch
)");

namespace {

void prepareStack(Fiber& fiber) {
    auto top = reinterpret_cast<std::uintptr_t>(fiber.stack.get() + kStackBytes);
    top &= ~std::uintptr_t(15);
    auto* slots = reinterpret_cast<void**>(top) - 10;
    // Six saved registers, then the address that `ret` jumps to, which needs the stack pointer to
    // be 8 beyond a multiple of 16, as after a call.
    std::fill(slots, slots + 10, nullptr);
    slots[6] = reinterpret_cast<void*>(&fiberMain);
    fiber.stackPointer = slots;
}

void switchStacks(void** saved, void* next) { pagdeployEmulatorSwitch(saved, next); }

}  // namespace

#else

namespace {

void prepareStack(Fiber& fiber) {
    auto* context = new ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = fiber.stack.get();
    context->uc_stack.ss_size = kStackBytes;
    context->uc_link = nullptr;
    makecontext(context, reinterpret_cast<void (*)()>(&fiberMain), 0);
    fiber.stackPointer = context;
}

void switchStacks(void** saved, void* next) {
    if (*saved == nullptr) {
        *saved = new ucontext_t;
    }
    swapcontext(static_cast<ucontext_t*>(*saved), static_cast<ucontext_t*>(next));
}

}  // namespace

#endif

namespace {

// Back to the scheduler; returns when the scheduler resumes this fiber.
void leaveFiber([[maybe_unused]] bool forGood) {
    Fiber* self = current;
#if PAG_FIBERS_UNDER_ASAN
    __sanitizer_start_switch_fiber(forGood ? nullptr : &self->fakeStack, schedulerStack,
                                   schedulerStackSize);
#endif
    switchStacks(&self->stackPointer, schedulerStackPointer);
#if PAG_FIBERS_UNDER_ASAN
    __sanitizer_finish_switch_fiber(self->fakeStack, &schedulerStack, &schedulerStackSize);
#endif
}

void fiberMain() {
#if PAG_FIBERS_UNDER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &schedulerStack, &schedulerStackSize);
#endif
    (*kernelBody)();
    current->done = true;
    --current->warp->running;
    --current->warpgroup->running;
    --block.running;
    leaveFiber(true);
    std::abort();
}

void enterFiber(Fiber& fiber) {
    current = &fiber;
#if PAG_FIBERS_UNDER_ASAN
    void* fakeStack = nullptr;
    __sanitizer_start_switch_fiber(&fakeStack, fiber.stack.get(), kStackBytes);
#endif
    switchStacks(&schedulerStackPointer, fiber.stackPointer);
#if PAG_FIBERS_UNDER_ASAN
    __sanitizer_finish_switch_fiber(fakeStack, nullptr, nullptr);
#endif
    current = nullptr;
}

bool blocked(const Fiber& fiber) {
    return fiber.waitingFor != nullptr &&
           fiber.waitingFor->generation == fiber.waitingGeneration;
}

// Runs one fiber until it waits or ends; false if it cannot run.
bool advance(Fiber& fiber) {
    if (fiber.done || blocked(fiber)) {
        return false;
    }
    enterFiber(fiber);
    return true;
}

bool advanceInTurn(std::vector<Fiber>& fibers, std::vector<int>& order, std::mt19937& random) {
    if (options.schedule == Schedule::kShuffled) {
        std::shuffle(order.begin(), order.end(), random);
    }
    bool any = false;
    for (int index : order) {
        any |= advance(fibers[index]);
    }
    return any;
}

// One warp runs until it cannot go on alone.
bool advanceGreedily(std::vector<Fiber>& fibers) {
    const int threads = int(fibers.size());
    const int warps = (threads + kWarp - 1) / kWarp;
    for (int i = 0; i < warps; ++i) {
        const int warp = options.schedule == Schedule::kFirstWarpAhead ? i : warps - 1 - i;
        bool any = false;
        for (bool more = true; more;) {
            more = false;
            for (int t = warp * kWarp; t < std::min(threads, (warp + 1) * kWarp); ++t) {
                more |= advance(fibers[t]);
            }
            any |= more;
        }
        if (any) {
            return true;
        }
    }
    return false;
}

void land(const AsyncCopy& copy) {
    std::memset(static_cast<char*>(copy.target) + copy.bytes, 0, std::size_t(copy.zeros));
    if (copy.bytes != 0) {
        std::memcpy(copy.target, copy.source, std::size_t(copy.bytes));
    }
}

// Stacks are kept from block to block: making them anew would dominate a test's time.
std::vector<Fiber> fibers;
std::vector<Team> warps;
std::vector<Team> warpgroups;

void formTeams(int threads) {
    if (int(fibers.size()) != threads) {
        fibers = std::vector<Fiber>(std::size_t(threads));
    }
    warps.assign(std::size_t((threads + kWarp - 1) / kWarp), {});
    warpgroups.assign(std::size_t((threads + kWarpgroup - 1) / kWarpgroup), {});
    queues.assign(warpgroups.size(), {});
    block = {};
    block.arguments.resize(std::size_t(threads));
    for (auto& warp : warps) {
        warp.arguments.resize(kWarp);
    }
    for (auto& warpgroup : warpgroups) {
        warpgroup.arguments.resize(kWarpgroup);
    }
    for (int i = 0; i < threads; ++i) {
        Fiber& fiber = fibers[std::size_t(i)];
        std::unique_ptr<char[]> stack = std::move(fiber.stack);
        fiber = {};
        fiber.stack = stack ? std::move(stack) : std::make_unique<char[]>(kStackBytes);
        fiber.thread = i;
        fiber.lane = i % kWarp;
        fiber.warp = &warps[std::size_t(i / kWarp)];
        fiber.warpgroup = &warpgroups[std::size_t(i / kWarpgroup)];
        fiber.warp->members.push_back(&fiber);
        fiber.warpgroup->members.push_back(&fiber);
        block.members.push_back(&fiber);
        ++fiber.warp->running;
        ++fiber.warpgroup->running;
        ++block.running;
        prepareStack(fiber);
    }
}

void runBlock(int threads) {
    formTeams(threads);
    std::vector<int> order(static_cast<std::size_t>(threads));
    for (int i = 0; i < threads; ++i) {
        order[std::size_t(i)] = options.schedule == Schedule::kBackward ? threads - 1 - i : i;
    }
    std::mt19937 random(options.seed);
    const bool greedy = options.schedule == Schedule::kFirstWarpAhead ||
                        options.schedule == Schedule::kLastWarpAhead;
    auto unfinished = [] {
        return std::any_of(fibers.begin(), fibers.end(), [](const Fiber& f) { return !f.done; });
    };
    while (unfinished()) {
        const bool any = greedy ? advanceGreedily(fibers) : advanceInTurn(fibers, order, random);
        if (!any) {
            std::string message = "deadlock; threads wait at";
            for (const auto& warp : warps) {
                if (warp.running > 0) {
                    message += std::string(" [") + warp.operation + "]";
                }
            }
            fail((message + " and the block at [" + block.operation + "]").c_str());
        }
    }
}

}  // namespace

void fail(const char* what) {
    std::fprintf(stderr, "emulator: %s\n", what);
    std::abort();
}

void requireAligned(const void* address, std::size_t alignment, const char* what) {
    if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0) {
        fail((std::string(what) + ": misaligned address").c_str());
    }
}

void requireShared(const void* address, std::size_t bytes, const char* what) {
    const auto* first = static_cast<const unsigned char*>(address);
    if (first < sharedMemory || first + bytes > sharedMemory + sharedSize) {
        fail((std::string(what) + ": outside shared memory").c_str());
    }
}

void waitForTeam(Team& team) {
    current->waitingFor = &team;
    current->waitingGeneration = team.generation;
    leaveFiber(false);
    current->waitingFor = nullptr;
}

void launch(int blocks, int threads, int sharedBytes, const std::function<void()>& kernel) {
    ++statistics.launches;
    if (sharedBytes > options.sharedBytesPerBlock || threads > 1024 || threads < 1 || blocks < 1) {
        fail("launch: a shape that no device accepts");
    }
    kernelBody = &kernel;
    blockSize = {unsigned(threads), 1, 1};
    gridSize = {unsigned(blocks), 1, 1};
    sharedSize = std::size_t(sharedBytes);
    // Exactly that many bytes, so that AddressSanitizer sees an access beyond the last one.
    void* memory = nullptr;
    if (posix_memalign(&memory, 1024, std::max<std::size_t>(1, sharedSize)) != 0) {
        fail("out of memory");
    }
    sharedMemory = static_cast<unsigned char*>(memory);
    for (int i = 0; i < blocks; ++i) {
        blockIndex = {unsigned(i), 0, 0};
        std::memset(sharedMemory, 0xEE, sharedSize);
        runBlock(threads);
    }
    std::free(memory);
    sharedMemory = nullptr;
    kernelBody = nullptr;
}

void copyAsync(void* target, const void* source, int bytes, int size) {
    requireAligned(target, std::size_t(size), "cp.async");
    requireShared(target, std::size_t(size), "cp.async");
    if (bytes != 0) {
        requireAligned(source, std::size_t(size), "cp.async");
    }
    statistics.copiedBytes += std::uint64_t(bytes);
    statistics.zeroedBytes += std::uint64_t(size - bytes);
    const AsyncCopy copy{target, source, bytes, size - bytes};
    if (!options.landLate) {
        land(copy);
        return;
    }
    std::memset(target, 0xFF, std::size_t(size));
    current->openCopies.push_back(copy);
}

void commitCopies() {
    current->copyGroups.push_back(std::move(current->openCopies));
    current->openCopies.clear();
}

void waitForCopies(int pending) {
    auto& groups = current->copyGroups;
    while (int(groups.size()) > pending) {
        for (const auto& copy : groups.front()) {
            land(copy);
        }
        groups.erase(groups.begin());
    }
}

}  // namespace pagdeploy::emulator

// Opens, loads, runs and releases a bundle over and over, right and wrong: runtime_cycles COUNT
//
// Exits with 1 if the heap holds one byte or block more at the end than half way, where nothing is left
// to be cached, or if the resident memory grew by more than 1 MB, which is room for allocators.
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>

#include "running.hpp"

namespace {

std::atomic<long> liveBytes{0};
std::atomic<long> liveBlocks{0};

void* counted(void* block) {
    if (block != nullptr) {
        liveBytes += static_cast<long>(malloc_usable_size(block));
        ++liveBlocks;
    }
    return block;
}

void discounted(void* block) {
    if (block != nullptr) {
        liveBytes -= static_cast<long>(malloc_usable_size(block));
        --liveBlocks;
    }
}

}  // namespace

// The allocator of this program and of every library in it: that of the C library, and a count.
extern "C" {

void* __libc_malloc(size_t);
void __libc_free(void*);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) { return counted(__libc_malloc(bytes)); }
void* calloc(size_t count, size_t bytes) { return counted(__libc_calloc(count, bytes)); }
void* memalign(size_t alignment, size_t bytes) { return counted(__libc_memalign(alignment, bytes)); }
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

void free(void* block) {
    discounted(block);
    __libc_free(block);
}

void* realloc(void* block, size_t bytes) {
    discounted(block);
    void* const moved = __libc_realloc(block, bytes);
    if (moved == nullptr && bytes > 0) {
        counted(block);  // which stays where it was
    }
    return counted(moved);
}

int posix_memalign(void** block, size_t alignment, size_t bytes) {
    *block = memalign(alignment, bytes);
    return *block == nullptr ? ENOMEM : 0;
}

}  // extern "C"

namespace {

using namespace pagdeploy;

double residentMegabytes() {
    long pages = 0;
    long resident = 0;
    std::ifstream("/proc/self/statm") >> pages >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1e6;
}

void cycle() {
    const Bundle bundle = Bundle::open(pathOf("sizes")).value();
    const Engine engine = Engine::create(bundle, withOnnxRuntime()).value();
    Context context = Context::create(engine).value();
    const std::vector<float> ones(8, 1.0f);
    context.bindInput("x", ones.data(), {2, 4}).value();
    context.bindInput("y", ones.data(), {2, 4}).value();
    const bool isEarly = context.run().ok();  // the scale is missing
    context.setScalar("scale", 2).value();
    context.run().value();
    const bool isRight = context.output("sum").value().as<float>()[7] == 4.0f;
    if (isEarly || !isRight || Bundle::open("/nowhere").ok()) {
        std::fprintf(stderr, "a cycle went wrong\n");
        std::exit(1);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const int cycles = count > 1 ? std::atoi(arguments[1]) : 500;
    long bytesAtHalf = 0;
    long blocksAtHalf = 0;
    double residentAtHalf = 0;
    for (int i = 0; i <= cycles; ++i) {
        if (i == cycles / 2) {
            residentAtHalf = residentMegabytes();
            bytesAtHalf = liveBytes;
            blocksAtHalf = liveBlocks;
        }
        if (i % (cycles < 10 ? 1 : cycles / 10) == 0) {
            std::printf("%6d cycles: %.2f MB resident, %ld bytes in %ld blocks\n", i,
                        residentMegabytes(), liveBytes.load(), liveBlocks.load());
        }
        cycle();
    }
    const long bytes = liveBytes - bytesAtHalf;
    const long blocks = liveBlocks - blocksAtHalf;
    const double resident = residentMegabytes() - residentAtHalf;
    std::printf("in the second half: %+ld bytes, %+ld blocks, %+.2f MB resident\n", bytes, blocks,
                resident);
    return bytes > 0 || blocks > 0 || resident > 1 ? 1 : 0;
}

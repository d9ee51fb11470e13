#include "failing_new.hpp"

#include <cstdlib>
#include <new>

namespace {

int allocationsLeft = -1;

}  // namespace

namespace pagdeploy::testing {

void failAllocation(int number) { allocationsLeft = number; }

}  // namespace pagdeploy::testing

void* operator new(std::size_t size) {
    if (allocationsLeft >= 0 && allocationsLeft-- == 0) {
        throw std::bad_alloc();
    }
    void* const memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

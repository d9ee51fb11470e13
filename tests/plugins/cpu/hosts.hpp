// Hosts for kernels under test: every allocation exact and poisoned, tasks in any order.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "common/host.hpp"

namespace pagdeploy::testing {

class TestHost : public Host {
public:
    explicit TestHost(int threads = 1) : threads_(threads) {}

    void parallelFor(std::size_t count, const std::function<void(std::size_t)>& task) override {
        tasks += count;
        if (threads_ == 1) {
            for (std::size_t i = count; i > 0; --i) {
                task(i - 1);
            }
            return;
        }
        std::vector<std::thread> workers;
        for (int t = 0; t < threads_; ++t) {
            workers.emplace_back([&, t] {
                for (std::size_t i = static_cast<std::size_t>(t); i < count;
                     i += static_cast<std::size_t>(threads_)) {
                    task(i);
                }
            });
        }
        for (std::thread& worker : workers) {
            worker.join();
        }
    }

    // AddressSanitizer guards the end only of a size that is not rounded up.
    void* allocate(std::size_t bytes) override {
        void* memory = nullptr;
        if (posix_memalign(&memory, 64, bytes == 0 ? 1 : bytes) != 0) {
            throw std::bad_alloc();
        }
        std::memset(memory, 0xFF, bytes);  // NaN as floats
        return memory;
    }
    void release(void* memory) noexcept override { std::free(memory); }

    std::size_t tasks = 0;

private:
    int threads_;
};

}  // namespace pagdeploy::testing

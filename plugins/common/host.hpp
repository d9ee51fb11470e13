// What the program around a CPU kernel lends it for one call: threads and memory.
#pragma once

#include <cstddef>
#include <functional>

namespace pagdeploy {

class Host {
public:
    virtual ~Host() = default;

    // Calls task(0) .. task(count - 1) in any order, on any threads, and returns when all are done.
    virtual void parallelFor(std::size_t count, const std::function<void(std::size_t)>& task) = 0;

    // Uninitialised memory on a 64-byte boundary; throws std::bad_alloc.
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* memory) noexcept = 0;
};

// An array that lives as long as a call.
template <typename Element>
class HostArray {
public:
    HostArray(Host& host, std::size_t size)
        : host_(host), data_(static_cast<Element*>(host.allocate(size * sizeof(Element)))) {}
    ~HostArray() { host_.release(data_); }
    HostArray(const HostArray&) = delete;
    HostArray& operator=(const HostArray&) = delete;

    Element* data() { return data_; }
    const Element* data() const { return data_; }
    Element& operator[](std::size_t i) { return data_[i]; }

private:
    Host& host_;
    Element* data_;
};

}  // namespace pagdeploy

// onnxruntime's C interface in the words of this library: exceptions, tensors, attributes.
//
// Only functions of version 18 of the interface are used, so that one library serves onnxruntime
// 1.18 and every later one, whatever headers it is built with.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "common/check.hpp"
#include "common/host.hpp"
#include "common/tensor.hpp"

namespace pagdeploy::ort {

constexpr std::uint32_t kApiVersion = 18;

// Set when the library is registered, before anything else here is called.
extern const OrtApi* api;

// Throws what a failed call reports.
void check(OrtStatus* status);

// Runs `action` behind a C interface: an exception becomes a status.
template <typename Action>
OrtStatus* guarded(const char* op, Action&& action) noexcept {
    try {
        action();
        return nullptr;
    } catch (const std::exception& problem) {
        const std::string sentence = std::string(op) + ": " + problem.what();
        return api->CreateStatus(ORT_INVALID_ARGUMENT, sentence.c_str());
    }
}

// A tensor of a running model. The data is borrowed.
struct Value {
    TensorShape shape;
    const void* data = nullptr;  // null where an optional input is left out

    template <typename Element>
    const Element* as() const {
        return static_cast<const Element*>(data);
    }
    std::size_t elements() const;
};

// What a kernel is created from. The overloads fit the generated visitors of op_attributes.hpp.
class KernelInfo {
public:
    explicit KernelInfo(const OrtKernelInfo* info) : info_(info) {}

    // An attribute that is absent keeps its value; one of another type is refused.
    void read(const char* name, std::int32_t& value) const;
    void read(const char* name, float& value) const;
    void read(const char* name, std::vector<std::int32_t>& values) const;

    // An input that no run can change; its data is null if it is none.
    Value constantInput(std::size_t index) const;

private:
    const OrtKernelInfo* info_;
};

// One run of one node.
class Context : public Host {
public:
    explicit Context(OrtKernelContext* context) : context_(context) {}
    ~Context() override;
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    Value input(std::size_t index) const;
    // Allocates the output, perhaps in the place of an input.
    template <typename Element>
    Element* output(const std::vector<std::int64_t>& shape) {
        return static_cast<Element*>(outputData(shape));
    }

    // The session's own threads.
    void parallelFor(std::size_t count, const std::function<void(std::size_t)>& task) override;
    // The session's own arena.
    void* allocate(std::size_t bytes) override;
    void release(void* memory) noexcept override;

private:
    void* outputData(const std::vector<std::int64_t>& shape);

    OrtKernelContext* context_;
    OrtAllocator* allocator_ = nullptr;  // asked for by the first allocation: most runs need none
};

// A size that may be a name, as shape inference sees it.
struct Dimension {
    std::int64_t size = kUnknownSize;
    std::string name;

    bool isKnown() const { return size >= 0 || !name.empty(); }
};
using Dimensions = std::vector<Dimension>;

class ShapeContext {
public:
    explicit ShapeContext(OrtShapeInferContext* context) : context_(context) {}

    // Empty if not even the rank is known.
    Dimensions input(std::size_t index) const;
    // Says nothing unless every size is known: an unnamed one would be taken for -1.
    void setOutput(const Dimensions& shape, ONNXTensorElementDataType type) const;

    void read(const char* name, std::int32_t& value) const;
    void read(const char* name, float&) const;  // no shape depends on one
    void read(const char* name, std::vector<std::int32_t>& values) const;

private:
    OrtShapeInferContext* context_;
};

}  // namespace pagdeploy::ort

#include "onnxruntime/api.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>

namespace pagdeploy::ort {

const OrtApi* api = nullptr;

namespace {

// True if the attribute was read, false if there is none; anything else is refused.
bool wasRead(OrtStatus* status, const char* name, const char* kind) {
    if (status == nullptr) {
        return true;
    }
    const bool absent = std::strstr(api->GetErrorMessage(status), "No attribute") != nullptr;
    api->ReleaseStatus(status);
    PAG_CHECK(absent, "attribute '" + std::string(name) + "' must be " + kind);
    return false;
}

std::int32_t narrow(const char* name, std::int64_t value) {
    using Limits = std::numeric_limits<std::int32_t>;
    PAG_CHECK(value >= Limits::min() && value <= Limits::max(),
              "attribute '" + std::string(name) + "' is " + std::to_string(value) +
                  ", which is no 32-bit integer");
    return static_cast<std::int32_t>(value);
}

std::vector<std::int32_t> narrow(const char* name, const std::vector<std::int64_t>& values) {
    std::vector<std::int32_t> result;
    for (const std::int64_t value : values) {
        result.push_back(narrow(name, value));
    }
    return result;
}

struct ReleaseInfo {
    void operator()(OrtTensorTypeAndShapeInfo* info) const {
        api->ReleaseTensorTypeAndShapeInfo(info);
    }
};
using Info = std::unique_ptr<OrtTensorTypeAndShapeInfo, ReleaseInfo>;

Value valueOf(const OrtValue* value) {
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    check(api->GetTensorTypeAndShape(value, &raw));
    const Info info(raw);
    Value result;
    std::size_t rank = 0;
    check(api->GetDimensionsCount(info.get(), &rank));
    PAG_CHECK(rank <= kMaxRank, "a tensor has " + std::to_string(rank) + " axes");
    result.shape.rank = static_cast<int>(rank);
    check(api->GetDimensions(info.get(), result.shape.d, rank));
    void* data = nullptr;
    check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    result.data = data;
    return result;
}

}  // namespace

void check(OrtStatus* status) {
    if (status != nullptr) {
        const std::string message = api->GetErrorMessage(status);
        api->ReleaseStatus(status);
        throw Refusal(message);
    }
}

std::size_t Value::elements() const {
    std::size_t count = 1;
    for (int axis = 0; axis < shape.rank; ++axis) {
        count *= static_cast<std::size_t>(shape.d[axis]);
    }
    return count;
}

void KernelInfo::read(const char* name, std::int32_t& value) const {
    std::int64_t wide = 0;
    if (wasRead(api->KernelInfoGetAttribute_int64(info_, name, &wide), name, "one integer")) {
        value = narrow(name, wide);
    }
}

void KernelInfo::read(const char* name, float& value) const {
    float given = 0.0f;
    if (wasRead(api->KernelInfoGetAttribute_float(info_, name, &given), name, "one float")) {
        value = given;
    }
}

void KernelInfo::read(const char* name, std::vector<std::int32_t>& values) const {
    constexpr const char* kKind = "a list of integers";
    std::size_t count = 0;
    if (!wasRead(api->KernelInfoGetAttributeArray_int64(info_, name, nullptr, &count), name,
                 kKind)) {
        return;
    }
    std::vector<std::int64_t> wide(count);
    check(api->KernelInfoGetAttributeArray_int64(info_, name, wide.data(), &count));
    values = narrow(name, wide);
}

Value KernelInfo::constantInput(std::size_t index) const {
    int isConstant = 0;
    const OrtValue* value = nullptr;
    check(api->KernelInfoGetConstantInput_tensor(info_, index, &isConstant, &value));
    return isConstant != 0 && value != nullptr ? valueOf(value) : Value{};
}

Context::~Context() {
    if (allocator_ != nullptr) {
        api->ReleaseAllocator(allocator_);
    }
}

Value Context::input(std::size_t index) const {
    std::size_t count = 0;
    check(api->KernelContext_GetInputCount(context_, &count));
    const OrtValue* value = nullptr;
    if (index < count) {
        check(api->KernelContext_GetInput(context_, index, &value));
    }
    return value != nullptr ? valueOf(value) : Value{};
}

void* Context::outputData(const std::vector<std::int64_t>& shape) {
    OrtValue* value = nullptr;
    check(api->KernelContext_GetOutput(context_, 0, shape.data(), shape.size(), &value));
    void* data = nullptr;
    check(api->GetTensorMutableData(value, &data));
    return data;
}

void Context::parallelFor(std::size_t count, const std::function<void(std::size_t)>& task) {
    if (count <= 1) {
        if (count == 1) {
            task(0);
        }
        return;
    }
    struct Work {
        const std::function<void(std::size_t)>& task;
        std::exception_ptr problem;
        std::mutex mutex;
    } work{task, nullptr, {}};
    // The pool's threads know no exceptions.
    const auto step = [](void* data, std::size_t index) {
        auto& work = *static_cast<Work*>(data);
        try {
            work.task(index);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(work.mutex);
            work.problem = std::current_exception();
        }
    };
    check(api->KernelContext_ParallelFor(context_, step, count, count, &work));
    if (work.problem) {
        std::rethrow_exception(work.problem);
    }
}

void* Context::allocate(std::size_t bytes) {
    if (allocator_ == nullptr) {
        OrtMemoryInfo* raw = nullptr;
        check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &raw));
        OrtStatus* const status = api->KernelContext_GetAllocator(context_, raw, &allocator_);
        api->ReleaseMemoryInfo(raw);
        check(status);
    }
    void* memory = allocator_->Alloc(allocator_, std::max<std::size_t>(bytes, 1));
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void Context::release(void* memory) noexcept { allocator_->Free(allocator_, memory); }

Dimensions ShapeContext::input(std::size_t index) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // stays the context's
    check(api->ShapeInferContext_GetInputTypeShape(context_, index, &info));
    std::size_t rank = 0;
    check(api->GetDimensionsCount(info, &rank));
    std::vector<std::int64_t> sizes(rank);
    std::vector<const char*> names(rank, nullptr);
    check(api->GetDimensions(info, sizes.data(), rank));
    check(api->GetSymbolicDimensions(info, names.data(), rank));
    Dimensions result(rank);
    for (std::size_t axis = 0; axis < rank; ++axis) {
        result[axis] = {sizes[axis], names[axis] != nullptr ? names[axis] : ""};
    }
    return result;
}

void ShapeContext::setOutput(const Dimensions& shape, ONNXTensorElementDataType type) const {
    std::vector<std::int64_t> sizes;
    std::vector<const char*> names;
    for (const Dimension& dimension : shape) {
        if (!dimension.isKnown()) {
            return;
        }
        sizes.push_back(dimension.size);
        names.push_back(dimension.name.c_str());
    }
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    check(api->CreateTensorTypeAndShapeInfo(&raw));
    const Info info(raw);
    check(api->SetTensorElementType(info.get(), type));
    check(api->SetDimensions(info.get(), sizes.data(), sizes.size()));
    check(api->SetSymbolicDimensions(info.get(), names.data(), names.size()));
    check(api->ShapeInferContext_SetOutputTypeShape(context_, 0, info.get()));
}

void ShapeContext::read(const char* name, std::int32_t& value) const {
    std::vector<std::int32_t> values;
    read(name, values);
    value = values.size() == 1 ? values[0] : value;
}

void ShapeContext::read(const char*, float&) const {}

void ShapeContext::read(const char* name, std::vector<std::int32_t>& values) const {
    const OrtOpAttr* attribute = nullptr;
    if (OrtStatus* status = api->ShapeInferContext_GetAttribute(context_, name, &attribute)) {
        api->ReleaseStatus(status);  // it is absent; the kernel will say so where that is wrong
        return;
    }
    std::int64_t one = 0;
    std::size_t bytes = 0;
    if (OrtStatus* status = api->ReadOpAttr(attribute, ORT_OP_ATTR_INT, &one, sizeof one, &bytes)) {
        api->ReleaseStatus(status);
    } else {
        values = {narrow(name, one)};
        return;
    }
    // With no room it fails and says how much it needs.
    if (OrtStatus* status = api->ReadOpAttr(attribute, ORT_OP_ATTR_INTS, nullptr, 0, &bytes)) {
        api->ReleaseStatus(status);
    }
    std::vector<std::int64_t> wide(bytes / sizeof(std::int64_t));
    if (!wide.empty()) {
        check(api->ReadOpAttr(attribute, ORT_OP_ATTR_INTS, wide.data(), bytes, &bytes));
        values = narrow(name, wide);
    }
}

}  // namespace pagdeploy::ort

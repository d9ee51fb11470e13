// The C ABI of pagdeploy.h as C++17: objects that release themselves, results that cannot be ignored.
//
//     auto bundle = pagdeploy::Bundle::open("m.pagbundle").value();
//     auto engine = pagdeploy::Engine::create(bundle).value();
//     auto context = pagdeploy::Context::create(engine).value();
//     context.bindInput("image", pixels.data(), {1, 3, 480, 640}).value();
//     context.run().value();
//     auto normals = context.output("normals").value();
//
// Every call that can fail returns a Result. Its value() throws pagdeploy::Exception where there is
// none; with -fno-exceptions, or PAGDEPLOY_NO_EXCEPTIONS defined, it ends the program, and ok() and
// error() are for those who handle it. Header-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "pagdeploy/pagdeploy.h"

#if !defined(PAGDEPLOY_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define PAGDEPLOY_NO_EXCEPTIONS
#endif
#ifndef PAGDEPLOY_NO_EXCEPTIONS
#include <stdexcept>
#endif

namespace pagdeploy {

using Shape = std::vector<std::int64_t>;

// Why a call failed, and what to do about it.
struct Error {
    pag_status status = PAG_OK;
    std::string message;
    std::string remedy;

    static Error last(pag_status status) { return {status, pag_message(), pag_remedy()}; }
    std::string text() const { return message + " " + remedy; }
};

#ifndef PAGDEPLOY_NO_EXCEPTIONS
class Exception : public std::runtime_error {
public:
    explicit Exception(Error error) : std::runtime_error(error.text()), error_(std::move(error)) {}
    const Error& error() const noexcept { return error_; }

private:
    Error error_;
};
#endif

namespace detail {

[[noreturn]] inline void fail(const Error& error) {
#ifndef PAGDEPLOY_NO_EXCEPTIONS
    throw Exception(error);
#else
    std::fprintf(stderr, "%s\n", error.text().c_str());
    std::abort();
#endif
}

}  // namespace detail

// A value, or why there is none.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Error error) : error_(std::move(error)) {}

    bool ok() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    const Error& error() const noexcept { return error_; }

    T& value() & { return required(), *value_; }
    const T& value() const& { return required(), *value_; }
    T value() && { return required(), std::move(*value_); }

private:
    void required() const {
        if (!ok()) {
            detail::fail(error_);
        }
    }

    std::optional<T> value_;
    Error error_;
};

template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}
    static Result of(pag_status status) {
        return status == PAG_OK ? Result() : Result(Error::last(status));
    }

    bool ok() const noexcept { return error_.status == PAG_OK; }
    explicit operator bool() const noexcept { return ok(); }
    const Error& error() const noexcept { return error_; }
    void value() const {
        if (!ok()) {
            detail::fail(error_);
        }
    }

private:
    Error error_;
};

template <class T>
constexpr pag_dtype dtypeOf() {
    using Element = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<Element, float>) {
        return PAG_FLOAT32;
    } else if constexpr (std::is_same_v<Element, double>) {
        return PAG_FLOAT64;
    } else if constexpr (std::is_same_v<Element, std::uint8_t>) {
        return PAG_UINT8;
    } else if constexpr (std::is_same_v<Element, std::int8_t>) {
        return PAG_INT8;
    } else if constexpr (std::is_same_v<Element, std::int32_t>) {
        return PAG_INT32;
    } else if constexpr (std::is_same_v<Element, std::int64_t>) {
        return PAG_INT64;
    } else {
        static_assert(std::is_same_v<Element, bool>, "give other dtypes by name, with their bytes");
        return PAG_BOOL;
    }
}

// An input or output, as the model declares it.
struct TensorInfo {
    std::string name;
    pag_dtype dtype = PAG_FLOAT32;
    Shape shape;                        // -1 where the size is dynamic
    std::vector<std::string> dimNames;  // of dynamic sizes, else empty
    Shape sampleShape;
    double sampleRange[2] = {};
};

struct GateInfo {
    std::string name;
    std::vector<double> density;  // of each branch, on the sample
};

// An output of the last run; valid until the next.
struct Tensor {
    void* data = nullptr;
    std::size_t bytes = 0;
    pag_dtype dtype = PAG_FLOAT32;
    pag_memory memory = PAG_HOST;
    Shape shape;

    // Null where the dtype is another.
    template <class T>
    T* as() const {
        return dtypeOf<T>() == dtype ? static_cast<T*>(data) : nullptr;
    }
};

namespace detail {

template <class T, void (*release)(T*)>
struct Release {
    void operator()(T* handle) const { release(handle); }
};

template <class T, void (*release)(T*)>
using Handle = std::unique_ptr<T, Release<T, release>>;

inline TensorInfo described(const pag_tensor_info& info) {
    TensorInfo tensor{info.name, static_cast<pag_dtype>(info.dtype), {}, {}, {}, {}};
    for (std::int32_t axis = 0; axis < info.rank; ++axis) {
        tensor.shape.push_back(info.shape[axis]);
        tensor.dimNames.emplace_back(info.dim_names[axis]);
        tensor.sampleShape.push_back(info.sample_shape[axis]);
    }
    tensor.sampleRange[0] = info.sample_range[0];
    tensor.sampleRange[1] = info.sample_range[1];
    return tensor;
}

}  // namespace detail

// A bundle that was checked; nothing of its engine has been interpreted.
class Bundle {
public:
    static Result<Bundle> open(const std::string& path) {
        pag_bundle* bundle = nullptr;
        const pag_status status = pag_bundle_open(path.c_str(), &bundle);
        if (status != PAG_OK) {
            return Error::last(status);
        }
        return Bundle(bundle);
    }

    std::string manifest() const { return pag_bundle_manifest(handle_.get()); }
    std::string engine() const { return pag_bundle_engine(handle_.get()); }
    std::vector<TensorInfo> inputs() const {
        return tensors(pag_bundle_input_count(handle_.get()), pag_bundle_input);
    }
    std::vector<TensorInfo> outputs() const {
        return tensors(pag_bundle_output_count(handle_.get()), pag_bundle_output);
    }
    std::vector<GateInfo> gates() const {
        std::vector<GateInfo> all;
        for (std::size_t i = 0; i < pag_bundle_gate_count(handle_.get()); ++i) {
            pag_gate_info info{};
            info.struct_size = sizeof info;
            if (pag_bundle_gate(handle_.get(), i, &info) == PAG_OK) {
                all.push_back({info.name, {info.density, info.density + info.branches}});
            }
        }
        return all;
    }

    pag_bundle* handle() const noexcept { return handle_.get(); }

private:
    explicit Bundle(pag_bundle* handle) : handle_(handle) {}

    std::vector<TensorInfo> tensors(std::size_t count,
                                    pag_status (*read)(const pag_bundle*, std::size_t,
                                                       pag_tensor_info*)) const {
        std::vector<TensorInfo> all;
        for (std::size_t i = 0; i < count; ++i) {
            pag_tensor_info info{};
            info.struct_size = sizeof info;
            if (read(handle_.get(), i, &info) == PAG_OK) {
                all.push_back(detail::described(info));
            }
        }
        return all;
    }

    detail::Handle<pag_bundle, pag_bundle_release> handle_;
};

// Fields as in pag_engine_options.
struct EngineOptions {
    std::string backendDirectory;
    std::string runtimeLibrary;
    int device = 0;
    int threads = 0;
    bool allowHostCode = false;
    pag_log log = nullptr;
    void* logUser = nullptr;
};

// A loaded engine; threads may share it.
class Engine {
public:
    static Result<Engine> create(const Bundle& bundle, const EngineOptions& options = {}) {
        const auto orNull = [](const std::string& text) {
            return text.empty() ? nullptr : text.c_str();
        };
        pag_engine_options plain{};
        plain.struct_size = sizeof plain;
        plain.backend_directory = orNull(options.backendDirectory);
        plain.runtime_library = orNull(options.runtimeLibrary);
        plain.device = options.device;
        plain.threads = options.threads;
        plain.allow_host_code = options.allowHostCode ? 1 : 0;
        plain.log = options.log;
        plain.log_user = options.logUser;
        pag_engine* engine = nullptr;
        const pag_status status = pag_engine_create(bundle.handle(), &plain, &engine);
        if (status != PAG_OK) {
            return Error::last(status);
        }
        return Engine(engine);
    }

    std::string runtime() const { return pag_engine_runtime(handle_.get()); }
    pag_engine* handle() const noexcept { return handle_.get(); }

private:
    explicit Engine(pag_engine* handle) : handle_(handle) {}

    detail::Handle<pag_engine, pag_engine_release> handle_;
};

// Fields as in pag_context_options.
struct ContextOptions {
    int profile = 0;
    pag_allocate allocate = nullptr;
    void* allocateUser = nullptr;
};

// What one thread binds and runs.
class Context {
public:
    static Result<Context> create(const Engine& engine, const ContextOptions& options = {}) {
        pag_context_options plain{};
        plain.struct_size = sizeof plain;
        plain.profile = options.profile;
        plain.allocate = options.allocate;
        plain.allocate_user = options.allocateUser;
        pag_context* context = nullptr;
        const pag_status status = pag_context_create(engine.handle(), &plain, &context);
        if (status != PAG_OK) {
            return Error::last(status);
        }
        return Context(context);
    }

    // The memory has to stay until it is bound anew, and holds all of the shape.
    template <class T>
    Result<void> bindInput(const std::string& name, const T* data, const Shape& shape,
                           pag_memory memory = PAG_HOST) {
        std::size_t bytes = sizeof(T);
        for (const std::int64_t size : shape) {
            bytes *= static_cast<std::size_t>(size < 0 ? 0 : size);
        }
        return bindInput(name, data, bytes, dtypeOf<T>(), shape, memory);
    }

    Result<void> bindInput(const std::string& name, const void* data, std::size_t bytes,
                           pag_dtype dtype, const Shape& shape, pag_memory memory = PAG_HOST) {
        return Result<void>::of(pag_context_bind_input(handle_.get(), name.c_str(), data, bytes, dtype,
                                                       shape.data(),
                                                       static_cast<std::int32_t>(shape.size()), memory));
    }

    template <class T>
    Result<void> bindOutput(const std::string& name, T* data, std::size_t elements,
                            pag_memory memory = PAG_HOST) {
        return bindOutput(name, data, elements * sizeof(T), dtypeOf<T>(), memory);
    }

    Result<void> bindOutput(const std::string& name, void* data, std::size_t bytes, pag_dtype dtype,
                            pag_memory memory = PAG_HOST) {
        return Result<void>::of(
            pag_context_bind_output(handle_.get(), name.c_str(), data, bytes, dtype, memory));
    }

    Result<void> setScalar(const std::string& name, double value) {
        return Result<void>::of(pag_context_set_scalar(handle_.get(), name.c_str(), value));
    }

    Result<void> run(void* stream = nullptr) {
        return Result<void>::of(pag_context_run(handle_.get(), stream));
    }

    Result<void> capture(void* stream) {
        return Result<void>::of(pag_context_capture(handle_.get(), stream));
    }

    Result<Tensor> output(const std::string& name) const {
        pag_tensor plain{};
        plain.struct_size = sizeof plain;
        const pag_status status = pag_context_output(handle_.get(), name.c_str(), &plain);
        if (status != PAG_OK) {
            return Error::last(status);
        }
        return Tensor{plain.data, plain.bytes, static_cast<pag_dtype>(plain.dtype),
                      static_cast<pag_memory>(plain.memory), {plain.shape, plain.shape + plain.rank}};
    }

    pag_context* handle() const noexcept { return handle_.get(); }

private:
    explicit Context(pag_context* handle) : handle_(handle) {}

    detail::Handle<pag_context, pag_context_release> handle_;
};

}  // namespace pagdeploy

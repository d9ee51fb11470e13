// The C ABI: arguments in, a status out. What is behind it throws.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "core/context.hpp"
#include "core/problem.hpp"
#include "core/version.hpp"

using namespace pagdeploy::runtime;

struct pag_bundle {
    std::shared_ptr<const Bundle> bundle;
};

struct pag_engine {
    std::shared_ptr<const Engine> engine;
};

struct pag_context {
    Context context;
    mutable std::atomic_flag isInUse = ATOMIC_FLAG_INIT;
};

namespace {

template <class T>
T& given(T* pointer, const char* name) {
    if (pointer == nullptr) {
        throw Problem(PAG_USAGE, std::string("The argument '") + name + "' is NULL.",
                      "Give what the last call handed out.");
    }
    return *pointer;
}

// A size that ends inside of a field would hand over half a pointer.
void requireSize(std::size_t size, const char* name) {
    constexpr auto kRemedy = "Set it to sizeof the struct.";
    if (size < sizeof size) {
        throw Problem(PAG_USAGE, std::string("The struct_size of the ") + name + " is not set.", kRemedy);
    }
    if (size % sizeof size != 0) {
        throw Problem(PAG_USAGE,
                      std::string("The struct_size of the ") + name + " is " + std::to_string(size) +
                          ", which that of no version is.",
                      kRemedy);
    }
}

// What a caller knows of a struct; the rest is zero, its default.
template <class T>
T known(const T* options) {
    T whole{};
    if (options != nullptr) {
        requireSize(options->struct_size, "options");
        std::memcpy(&whole, options, std::min(options->struct_size, sizeof whole));
    }
    return whole;
}

// Writes as much of a struct as its caller knows.
template <class T>
void handOut(T* to, T value) {
    const std::size_t size = given(to, "result").struct_size;
    requireSize(size, "result");
    value.struct_size = size;
    std::memcpy(to, &value, std::min(size, sizeof value));
}

template <class T>
const T& at(const std::vector<T>& all, std::size_t index, const char* kind) {
    if (index >= all.size()) {
        throw Problem(PAG_USAGE,
                      "There are " + std::to_string(all.size()) + " " + kind + ", and number " +
                          std::to_string(index) + " was asked for.",
                      "Count from zero.");
    }
    return all[index];
}

// The context of a call, for as long as the call lasts: two at once, which would be a race, get a
// status instead.
class Held {
public:
    explicit Held(const pag_context* context) : context_(given(context, "context")) {
        if (context_.isInUse.test_and_set(std::memory_order_acquire)) {
            throw Problem(PAG_USAGE, "The context is in use by another call.",
                          "Make a context for each thread.");
        }
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() { context_.isInUse.clear(std::memory_order_release); }

private:
    const pag_context& context_;
};

pag_tensor_info described(const TensorSpec& tensor) {
    pag_tensor_info info{};
    info.name = tensor.name.c_str();
    info.dtype = tensor.dtype;
    info.rank = static_cast<std::int32_t>(tensor.shape.size());
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
        info.shape[axis] = tensor.shape[axis];
        info.dim_names[axis] = tensor.dimNames[axis].c_str();
        info.sample_shape[axis] = tensor.sampleShape[axis];
    }
    std::copy_n(tensor.sampleRange, 2, info.sample_range);
    return info;
}

}  // namespace

extern "C" {

uint32_t pag_abi_version(void) { return PAG_ABI_VERSION; }
const char* pag_version(void) { return kVersion; }
const char* pag_message(void) { return reportedMessage(); }
const char* pag_remedy(void) { return reportedRemedy(); }

pag_status pag_bundle_open(const char* path, pag_bundle** bundle) {
    return guarded([&] {
        given(bundle, "bundle") = nullptr;
        *bundle = new pag_bundle{std::make_shared<const Bundle>(&given(path, "path"))};
    });
}

void pag_bundle_release(pag_bundle* bundle) { delete bundle; }

const char* pag_bundle_manifest(const pag_bundle* bundle) {
    return bundle == nullptr ? "" : bundle->bundle->manifest().text.c_str();
}

const char* pag_bundle_engine(const pag_bundle* bundle) {
    return bundle == nullptr ? "" : bundle->bundle->manifest().flavour.c_str();
}

size_t pag_bundle_input_count(const pag_bundle* bundle) {
    return bundle == nullptr ? 0 : bundle->bundle->manifest().inputs.size();
}

size_t pag_bundle_output_count(const pag_bundle* bundle) {
    return bundle == nullptr ? 0 : bundle->bundle->manifest().outputs.size();
}

size_t pag_bundle_gate_count(const pag_bundle* bundle) {
    return bundle == nullptr ? 0 : bundle->bundle->manifest().gates.size();
}

pag_status pag_bundle_input(const pag_bundle* bundle, size_t index, pag_tensor_info* info) {
    return guarded([&] {
        handOut(info, described(at(given(bundle, "bundle").bundle->manifest().inputs, index, "inputs")));
    });
}

pag_status pag_bundle_output(const pag_bundle* bundle, size_t index, pag_tensor_info* info) {
    return guarded([&] {
        handOut(info,
                described(at(given(bundle, "bundle").bundle->manifest().outputs, index, "outputs")));
    });
}

pag_status pag_bundle_gate(const pag_bundle* bundle, size_t index, pag_gate_info* info) {
    return guarded([&] {
        const GateSpec& gate = at(given(bundle, "bundle").bundle->manifest().gates, index, "gates");
        handOut(info, pag_gate_info{0, gate.name.c_str(), static_cast<std::int32_t>(gate.density.size()),
                                    gate.density.data()});
    });
}

pag_status pag_engine_create(pag_bundle* bundle, const pag_engine_options* options,
                             pag_engine** engine) {
    return guarded([&] {
        given(engine, "engine") = nullptr;
        *engine = new pag_engine{
            std::make_shared<const Engine>(given(bundle, "bundle").bundle, known(options))};
    });
}

void pag_engine_release(pag_engine* engine) { delete engine; }

const char* pag_engine_runtime(const pag_engine* engine) {
    return engine == nullptr ? "" : engine->engine->runtime();
}

pag_status pag_context_create(pag_engine* engine, const pag_context_options* options,
                              pag_context** context) {
    return guarded([&] {
        given(context, "context") = nullptr;
        *context = new pag_context{{given(engine, "engine").engine, known(options)}};
    });
}

void pag_context_release(pag_context* context) { delete context; }

pag_status pag_context_bind_input(pag_context* context, const char* name, const void* data,
                                  size_t bytes, int32_t dtype, const int64_t* shape, int32_t rank,
                                  int32_t memory) {
    return guarded([&] {
        const Held held(context);
        context->context.bindInput(name, data, bytes, dtype, shape, rank, memory);
    });
}

pag_status pag_context_bind_output(pag_context* context, const char* name, void* data, size_t bytes,
                                   int32_t dtype, int32_t memory) {
    return guarded([&] {
        const Held held(context);
        context->context.bindOutput(name, data, bytes, dtype, memory);
    });
}

pag_status pag_context_set_scalar(pag_context* context, const char* name, double value) {
    return guarded([&] {
        const Held held(context);
        context->context.setScalar(name, value);
    });
}

pag_status pag_context_run(pag_context* context, void* stream) {
    return guarded([&] {
        const Held held(context);
        context->context.run(stream);
    });
}

pag_status pag_context_output(const pag_context* context, const char* name, pag_tensor* tensor) {
    return guarded([&] {
        const Held held(context);
        handOut(tensor, context->context.output(name));
    });
}

pag_status pag_context_capture(pag_context* context, void* stream) {
    return guarded([&] {
        const Held held(context);
        context->context.capture(stream);
    });
}

}  // extern "C"

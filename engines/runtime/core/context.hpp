// A context: what one thread has bound to the inputs and outputs of an engine, and its last run.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/engine.hpp"

namespace pagdeploy::runtime {

class Context {
public:
    Context(std::shared_ptr<const Engine> engine, const pag_context_options& options);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    void bindInput(const char* name, const void* data, std::size_t bytes, std::int32_t dtype,
                   const std::int64_t* shape, std::int32_t rank, std::int32_t memory);
    void bindOutput(const char* name, void* data, std::size_t bytes, std::int32_t dtype,
                    std::int32_t memory);
    void setScalar(const char* name, double value);
    void run(void* stream);
    void capture(void* stream);
    pag_tensor output(const char* name) const;

private:
    // Dynamic sizes by name, and an input that has it.
    using Sizes = std::map<std::string, std::pair<std::int64_t, const TensorSpec*>>;

    void prepare(void* stream);
    Sizes boundSizes() const;
    void inferOutputs(const Sizes& sizes);

    std::shared_ptr<const Engine> engine_;
    void* handle_ = nullptr;
    std::vector<Binding> inputs_;
    std::vector<Binding> outputs_;
    std::vector<bool> isBound_;           // of the inputs
    std::vector<std::int64_t> scalars_;   // memory for one element of each input
    bool rebound_ = true;
    bool hasRun_ = false;
};

}  // namespace pagdeploy::runtime

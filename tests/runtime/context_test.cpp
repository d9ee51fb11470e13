// Binding, running and reading, right and wrong. The model: sum = (x + y) * scale (n, 4), and where
// that is not zero (2, k).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "running.hpp"

namespace pagdeploy {
namespace {

class ContextTest : public testing::Test {
protected:
    static const Engine& engine() {
        static const Engine loaded = load("sizes");
        return loaded;
    }

    // Rows of x counted from 1, y of ones, and a scale of 2.
    void bind(std::size_t rows, Context& context) {
        x_.resize(4 * rows + 1);
        y_.assign(4 * rows + 1, 1.0f);
        for (std::size_t i = 0; i < x_.size(); ++i) {
            x_[i] = static_cast<float>(i + 1);
        }
        const auto n = static_cast<std::int64_t>(rows);
        context.bindInput("x", x_.data(), {n, 4}).value();
        context.bindInput("y", y_.data(), {n, 4}).value();
        context.setScalar("scale", 2).value();
    }

    static void expectSums(const float* sum, std::size_t count, float scale = 2) {
        for (std::size_t i = 0; i < count; ++i) {
            EXPECT_EQ(sum[i], (static_cast<float>(i) + 2) * scale) << i;
        }
    }

    static void expectMisuse(const Result<void>& result, const std::string& message) {
        EXPECT_EQ(result.error().status, PAG_USAGE);
        EXPECT_EQ(result.error().message, message);
        EXPECT_NE(result.error().remedy, "");
    }

    std::vector<float> x_;
    std::vector<float> y_;
    Context context_ = Context::create(engine()).value();
};

TEST_F(ContextTest, RunsInMemoryOfItsOwn) {
    for (const std::size_t rows : {2, 5, 1}) {
        bind(rows, context_);
        context_.run().value();
        const Tensor sum = context_.output("sum").value();
        EXPECT_EQ(sum.shape, (Shape{static_cast<std::int64_t>(rows), 4}));
        EXPECT_EQ(sum.bytes, 16 * rows);
        EXPECT_EQ(sum.memory, PAG_HOST);
        expectSums(sum.as<float>(), 4 * rows);
        EXPECT_EQ(sum.as<std::int32_t>(), nullptr);
        EXPECT_EQ(context_.output("where").value().shape, (Shape{2, static_cast<std::int64_t>(4 * rows)}));
    }
}

TEST_F(ContextTest, RunsInMemoryOfTheCaller) {
    bind(2, context_);
    std::vector<float> sum(9, -1);
    std::vector<std::int64_t> where(20, -1);
    context_.bindOutput("sum", sum.data(), 9).value();
    context_.bindOutput("where", where.data(), where.size()).value();
    context_.run().value();
    expectSums(sum.data(), 8);
    EXPECT_EQ(sum[8], -1);  // nothing behind the output was touched
    EXPECT_EQ(context_.output("sum").value().data, sum.data());
    EXPECT_EQ(context_.output("where").value().data, where.data());
    EXPECT_EQ((std::vector<std::int64_t>(where.begin(), where.begin() + 17)),
              (std::vector<std::int64_t>{0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 2, 3, 0, 1, 2, 3, -1}));
    // What was bound is read anew, and may be unbound.
    x_[0] = 3;
    context_.setScalar("scale", 0.5).value();
    context_.run().value();
    EXPECT_EQ(sum[0], 2.0f);
    context_.bindOutput("sum", nullptr, 0, PAG_FLOAT32).value();
    context_.run().value();
    EXPECT_NE(context_.output("sum").value().data, sum.data());
}

TEST_F(ContextTest, AnOutputOfUnknownSizeFindsTooLittleRoom) {
    bind(2, context_);
    std::vector<std::int64_t> where(15, -1);
    context_.bindOutput("where", where.data(), where.size()).value();
    expectMisuse(context_.run(), "The output 'where' needs 128 bytes of host memory.");
    EXPECT_EQ(where, std::vector<std::int64_t>(15, -1));
    EXPECT_EQ(context_.output("sum").error().message,
              "The output 'sum' was asked for before a run succeeded.");
    context_.bindOutput("where", nullptr, 0, PAG_INT64).value();
    context_.run().value();
}

TEST_F(ContextTest, AnOutputOfKnownSizeFindsTooLittleRoom) {
    bind(2, context_);
    std::vector<float> sum(7);
    context_.bindOutput("sum", sum.data(), sum.size()).value();
    expectMisuse(context_.run(), "The output 'sum' needs 32 bytes, and 28 are bound.");
    bind(1, context_);  // fewer rows fit
    context_.run().value();
    expectSums(sum.data(), 4);
}

TEST_F(ContextTest, TakesNoRowsAtAll) {
    bind(0, context_);
    context_.bindInput("x", static_cast<const float*>(nullptr), {0, 4}).value();
    context_.run().value();
    const Tensor sum = context_.output("sum").value();
    EXPECT_EQ(sum.shape, (Shape{0, 4}));
    EXPECT_EQ(sum.bytes, 0u);
    EXPECT_EQ(context_.output("where").value().shape, (Shape{2, 0}));
}

TEST_F(ContextTest, WantsEveryInput) {
    expectMisuse(context_.run(), "The input 'x' is not bound.");
    bind(2, context_);
    Context other = Context::create(engine()).value();
    other.bindInput("x", x_.data(), {2, 4}).value();
    other.bindInput("y", y_.data(), {2, 4}).value();
    expectMisuse(other.run(), "The input 'scale' is not bound.");
}

TEST_F(ContextTest, RefusesWhatDoesNotFit) {
    bind(2, context_);
    const float* const x = x_.data();
    expectMisuse(context_.bindInput("z", x, {2, 4}), "There is no input 'z'.");
    expectMisuse(context_.bindInput("x", reinterpret_cast<const std::int32_t*>(x), {2, 4}),
                 "'x' is float32, and int32 is bound.");
    const auto bindAs = [&](std::int32_t dtype, std::int32_t memory) {
        const std::int64_t shape[] = {2, 4};
        return Result<void>::of(
            pag_context_bind_input(context_.handle(), "x", x, 32, dtype, shape, 2, memory));
    };
    expectMisuse(bindAs(99, PAG_HOST), "'x' is float32, and dtype 99 is bound.");
    expectMisuse(bindAs(PAG_FLOAT32, 2), "The memory of 'x' is of kind 2.");
    expectMisuse(context_.bindInput("x", x, {2, 5}), "The input 'x' is (2, 5) and must be (n, 4).");
    expectMisuse(context_.bindInput("x", x, {8}), "The input 'x' is (8) and must be (n, 4).");
    expectMisuse(context_.bindInput("x", x, {-1, 4}), "The input 'x' is (-1, 4) and must be (n, 4).");
    expectMisuse(context_.bindInput("x", x, 31, PAG_FLOAT32, {2, 4}),
                 "The input 'x' needs 32 bytes, and 31 are bound.");
    expectMisuse(context_.bindInput("x", static_cast<const float*>(nullptr), {2, 4}),
                 "The input 'x' needs 32 bytes, and 0 are bound.");
    expectMisuse(context_.bindInput("x", x, SIZE_MAX, PAG_FLOAT32, {INT64_MAX, 4}),
                 "'x' would not fit into memory.");
    expectMisuse(context_.bindInput("x", reinterpret_cast<const char*>(x) + 1, 32, PAG_FLOAT32, {2, 4}),
                 "The memory of 'x' does not begin at a multiple of 4 bytes.");
    expectMisuse(context_.bindInput("x", x, {2, 4}, PAG_DEVICE),
                 "'x' is bound to device memory, and the engine runs on the CPU.");
    expectMisuse(context_.bindOutput("x", x_.data(), 8), "There is no output 'x'.");
    expectMisuse(context_.bindOutput("sum", reinterpret_cast<double*>(x_.data()), 8),
                 "'sum' is float32, and float64 is bound.");
    expectMisuse(context_.run(reinterpret_cast<void*>(1)),
                 "A stream was given, and the engine runs on the CPU.");
    expectMisuse(context_.capture(nullptr),
                 "A CUDA graph was asked for, and the engine runs on the CPU.");
    context_.run().value();  // none of it changed what is bound
    expectSums(context_.output("sum").value().as<float>(), 8);
}

TEST_F(ContextTest, RefusesShapesThatAreNone) {
    const std::int64_t shape[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    float one = 1;
    pag_context* const handle = context_.handle();
    for (const auto& [sizes, rank] : {std::pair<const std::int64_t*, int>{shape, 9}, {shape, -1},
                                      {nullptr, 2}, {shape, INT32_MIN}}) {
        EXPECT_EQ(pag_context_bind_input(handle, "x", &one, 4, PAG_FLOAT32, sizes, rank, PAG_HOST),
                  PAG_USAGE);
    }
    EXPECT_EQ(pag_context_bind_input(handle, nullptr, &one, 4, PAG_FLOAT32, shape, 1, PAG_HOST),
              PAG_USAGE);
    EXPECT_EQ(pag_context_output(handle, nullptr, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_context_bind_input(handle, "scale", &one, 4, PAG_FLOAT32, nullptr, 0, PAG_HOST), PAG_OK);
}

TEST_F(ContextTest, SizesOfOneNameAgree) {
    bind(2, context_);
    context_.bindInput("y", y_.data(), {1, 4}).value();
    expectMisuse(context_.run(), "The size 'n' is 2 in the input 'x' and 1 in 'y'.");
}

TEST_F(ContextTest, ScalarsAreOfTheirDtype) {
    expectMisuse(context_.setScalar("x", 1), "The input 'x' is (n, 4), not a scalar.");
    const auto huge = context_.setScalar("scale", 1e300);
    EXPECT_EQ(huge.error().status, PAG_USAGE);
    bind(1, context_);
    context_.setScalar("scale", std::numeric_limits<double>::infinity()).value();
    context_.run().value();
    EXPECT_TRUE(std::isinf(context_.output("sum").value().as<float>()[0]));
    float two = 2;  // memory of the caller takes the place of the kept number, and back
    context_.bindInput("scale", &two, {}).value();
    context_.run().value();
    expectSums(context_.output("sum").value().as<float>(), 4);
    context_.setScalar("scale", 3).value();
    context_.run().value();
    expectSums(context_.output("sum").value().as<float>(), 4, 3);
}

TEST_F(ContextTest, OutputsAreAskedForByName) {
    EXPECT_EQ(context_.output("sum").error().message,
              "The output 'sum' was asked for before a run succeeded.");
    EXPECT_EQ(context_.output("product").error().message, "There is no output 'product'.");
    EXPECT_EQ(context_.output("product").error().remedy, "Choose one of: sum, where.");
}

TEST_F(ContextTest, HasNoProfiles) {
    ContextOptions options;
    options.profile = 1;
    EXPECT_EQ(Context::create(engine(), options).error().status, PAG_USAGE);
}

// Hands out one vector per output, or nothing.
struct Memory {
    std::vector<std::vector<std::int64_t>> blocks;
    std::vector<std::string> names;
    bool isEmpty = false;

    static void* give(void* user, const char* name, std::size_t bytes, std::int32_t memory) {
        auto& self = *static_cast<Memory*>(user);
        EXPECT_EQ(memory, PAG_HOST);
        self.names.emplace_back(name);
        self.blocks.emplace_back(bytes / 8 + 1);
        return self.isEmpty ? nullptr : self.blocks.back().data();
    }
};

TEST_F(ContextTest, OutputsGoWhereTheCallerAllocates) {
    Memory memory;
    ContextOptions options;
    options.allocate = Memory::give;
    options.allocateUser = &memory;
    Context context = Context::create(engine(), options).value();
    bind(2, context);
    std::vector<float> bound(8);
    context.bindOutput("sum", bound.data(), 8).value();
    context.run().value();
    EXPECT_EQ(memory.names, std::vector<std::string>{"where"});  // the other one is bound
    EXPECT_EQ(context.output("where").value().data, memory.blocks[0].data());
    memory.isEmpty = true;
    const auto failed = context.run();
    EXPECT_EQ(failed.error().status, PAG_ENVIRONMENT);
    EXPECT_EQ(failed.error().message, "No memory was given for the output 'where', 128 bytes.");
    memory.isEmpty = false;
    context.run().value();
    expectSums(bound.data(), 8);
}

TEST(Lifetime, ObjectsAreReleasedInAnyOrder) {
    std::optional<Bundle> bundle = Bundle::open(pathOf("sizes")).value();
    std::optional<Engine> engine = Engine::create(*bundle, withOnnxRuntime()).value();
    Context context = Context::create(*engine).value();
    bundle.reset();
    engine.reset();
    EXPECT_EQ(context.run().error().status, PAG_USAGE);  // and not a use of what is gone
}

}  // namespace
}  // namespace pagdeploy

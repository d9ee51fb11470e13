// Contexts of one engine in threads of their own, at once; meant for ThreadSanitizer, too.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "running.hpp"

namespace pagdeploy {
namespace {

constexpr int kThreads = 8;
constexpr int kRuns = 50;

TEST(Threads, ContextsOfOneEngineDoNotDisturbEachOther) {
    const Engine engine = load("gated-gather");
    const Shape shape{1, 8, 12, 16};
    constexpr std::size_t kSize = 8 * 12 * 16;
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            std::vector<float> image(kSize);
            std::vector<float> out(kSize);
            for (std::size_t i = 0; i < kSize; ++i) {
                image[i] = static_cast<float>((i * 37 + static_cast<std::size_t>(thread) * 11) % 101) / 50 - 1;
            }
            Context context = Context::create(engine).value();
            context.bindInput("image", image.data(), shape).value();
            context.run().value();
            const Tensor first = context.output("out").value();
            const std::vector<float> expected(first.as<float>(), first.as<float>() + kSize);
            context.bindOutput("out", out.data(), kSize).value();
            for (int run = 0; run < kRuns; ++run) {
                std::fill(out.begin(), out.end(), 0.0f);
                wrong += context.run().ok() && out == expected ? 0 : 1;
                // Messages of one thread never show up in another.
                const std::string name = "no output of thread " + std::to_string(thread);
                wrong += context.output(name).error().message == "There is no output '" + name + "'."
                             ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
}

// Waits inside of a run until it is told to go on.
struct Gate {
    std::atomic<bool> isReached{false};
    std::atomic<bool> isOpen{false};
    std::vector<float> memory;

    static void* wait(void* user, const char*, std::size_t bytes, std::int32_t) {
        auto& gate = *static_cast<Gate*>(user);
        gate.isReached = true;
        while (!gate.isOpen) {
            std::this_thread::yield();
        }
        gate.memory.resize(bytes / sizeof(float));
        return gate.memory.data();
    }
};

TEST(Threads, AContextIsUsedByOneAtATime) {
    Gate gate;
    ContextOptions options;
    options.allocate = Gate::wait;
    options.allocateUser = &gate;
    Context context = Context::create(load("gated-gather"), options).value();
    const std::vector<float> image(8 * 12 * 16);
    context.bindInput("image", image.data(), {1, 8, 12, 16}).value();
    std::thread other([&] { context.run().value(); });
    while (!gate.isReached) {
        std::this_thread::yield();
    }
    const auto bound = context.bindInput("image", image.data(), {1, 8, 12, 16});
    for (const Error& error : {context.run().error(), bound.error(), context.output("out").error(),
                               context.setScalar("image", 1).error(), context.capture(nullptr).error()}) {
        EXPECT_EQ(error.status, PAG_USAGE);
        EXPECT_EQ(error.message, "The context is in use by another call.");
    }
    gate.isOpen = true;
    other.join();
    context.run().value();
}

TEST(Threads, BundlesAndEnginesMayBeMadeAtOnce) {
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&wrong] {
            for (int i = 0; i < 5; ++i) {
                const auto bundle = Bundle::open(pathOf("sizes"));
                const auto engine = Engine::create(bundle.value(), withOnnxRuntime());
                wrong += engine && Context::create(engine.value()) ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace pagdeploy

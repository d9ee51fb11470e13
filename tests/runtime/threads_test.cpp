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

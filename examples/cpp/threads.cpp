// One engine, one context in each thread: threads BUNDLE PHOTO.ppm THREADS RUNS
//
// Every thread runs the same photo and has to get the same bytes. Each operator gets one thread, so
// that the threads of this program have the cores.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <thread>

#include "photo.hpp"

using namespace pagdeploy;

namespace {

// The bytes of the first output, after so many runs.
std::vector<char> repeated(const Engine& engine, const Bundle& bundle, const Photo& photo, int runs) {
    Context context = Context::create(engine).value();
    for (const TensorInfo& input : bundle.inputs()) {
        if (input.shape.empty()) {
            context.setScalar(input.name, 0).value();
        } else {
            context.bindInput(input.name, photo.pixels.data(), photo.shape()).value();
        }
    }
    for (int i = 0; i < runs; ++i) {
        context.run().value();
    }
    const Tensor tensor = context.output(bundle.outputs()[0].name).value();
    const auto* const bytes = static_cast<const char*>(tensor.data);
    return {bytes, bytes + tensor.bytes};
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 5) {
        std::cerr << "threads BUNDLE PHOTO.ppm THREADS RUNS\n";
        return 2;
    }
    try {
        const Bundle bundle = Bundle::open(arguments[1]).value();
        EngineOptions options = optionsOfEnvironment();
        options.threads = 1;
        const Engine engine = Engine::create(bundle, options).value();
        const Photo photo = readPhoto(arguments[2]);
        const int runs = std::max(1, std::atoi(arguments[4]));

        std::vector<std::vector<char>> outputs(static_cast<std::size_t>(std::max(1, std::atoi(arguments[3]))));
        std::vector<std::string> failures(outputs.size());
        std::vector<std::thread> threads;
        const auto start = std::chrono::steady_clock::now();
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            threads.emplace_back([&, i] {
                try {
                    outputs[i] = repeated(engine, bundle, photo, runs);
                } catch (const std::exception& failure) {
                    failures[i] = failure.what();
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            if (!failures[i].empty() || outputs[i] != outputs[0]) {
                std::cerr << "thread " << i << ": "
                          << (failures[i].empty() ? "other bytes" : failures[i]) << "\n";
                return 1;
            }
        }
        std::cout << outputs.size() << " threads, "
                  << static_cast<double>(runs) * static_cast<double>(outputs.size()) / seconds.count()
                  << " runs a second, all alike\n";
    } catch (const std::exception& failure) {
        std::cerr << failure.what() << "\n";
        return 1;
    }
    return 0;
}

// Frames through a network with a budget input, so that they meet a deadline:
//
//     video_loop BUNDLE DEADLINE FRAMES PHOTO.ppm... [--beside NUMBER]...
//
// The photos come in turn, as the scenes of a video. DEADLINE is in milliseconds. One line for each
// frame: its number, the photo's, the budget, and the milliseconds that it took. Each --beside runs
// the frame once more at that budget and adds what it took then: so that whatever else the machine
// does hits all of them alike.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "latency_governor.hpp"
#include "photo.hpp"

using namespace pagdeploy;

namespace {

struct Arguments {
    std::string bundle;
    double deadline = 0;
    int frames = 0;
    std::vector<Photo> photos;
    std::vector<double> beside;
};

Arguments read(int count, char** arguments) {
    if (count < 5) {
        throw std::runtime_error(
            "video_loop BUNDLE DEADLINE FRAMES PHOTO.ppm... [--beside NUMBER]...");
    }
    Arguments found;
    found.bundle = arguments[1];
    found.deadline = std::atof(arguments[2]);
    found.frames = std::atoi(arguments[3]);
    for (int i = 4; i < count; ++i) {
        if (i + 1 < count && std::strcmp(arguments[i], "--beside") == 0) {
            found.beside.push_back(std::atof(arguments[++i]));
        } else {
            found.photos.push_back(readPhoto(arguments[i]));
        }
    }
    if (found.photos.empty() || !(found.deadline > 0)) {
        throw std::runtime_error("Give photos, and a deadline in milliseconds.");
    }
    return found;
}

double millisecondsOf(Context& context, const Photo& photo, double budget) {
    const auto start = std::chrono::steady_clock::now();
    context.bindInput("image", photo.pixels.data(), photo.shape()).value();
    context.setScalar("budget", budget).value();
    context.run().value();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int count, char** arguments) {
    try {
        const Arguments asked = read(count, arguments);
        const Bundle bundle = Bundle::open(asked.bundle).value();
        const Engine engine = Engine::create(bundle, optionsOfEnvironment()).value();
        Context context = Context::create(engine).value();
        LatencyGovernor::Options options;
        options.deadline = asked.deadline;
        LatencyGovernor governor(options);

        // Scenes last for as many frames as fit, as in a video that is cut.
        const int photos = static_cast<int>(asked.photos.size());
        const int scene = std::max(1, asked.frames / photos);
        for (int frame = 0; frame < asked.frames; ++frame) {
            const int number = std::min(frame / scene, photos - 1);
            const Photo& photo = asked.photos[static_cast<std::size_t>(number)];
            const double budget = governor.budget();
            const double took = millisecondsOf(context, photo, budget);
            governor.observe(took);
            std::cout << frame << " " << number << " " << budget << " " << took;
            for (const double other : asked.beside) {
                std::cout << " " << millisecondsOf(context, photo, other);
            }
            std::cout << "\n";
        }
    } catch (const std::exception& failure) {
        std::cerr << failure.what() << "\n";
        return 1;
    }
    return 0;
}

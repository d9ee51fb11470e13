// The bundles that make_bundles.py built, and onnxruntime's library to run them with.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "pagdeploy/pagdeploy.hpp"

namespace pagdeploy {

inline std::filesystem::path bundles() {
    const char* const folder = std::getenv("PAGDEPLOY_TEST_BUNDLES");
    return folder != nullptr ? folder : ".";
}

inline std::string pathOf(const std::string& name) {
    return (bundles() / (name + ".pagbundle")).string();
}

inline EngineOptions withOnnxRuntime() {
    EngineOptions options;
    std::getline(std::ifstream(bundles() / "onnxruntime.txt"), options.runtimeLibrary);
    options.threads = 1;
    return options;
}

inline Engine load(const std::string& name) {
    return Engine::create(Bundle::open(pathOf(name)).value(), withOnnxRuntime()).value();
}

}  // namespace pagdeploy

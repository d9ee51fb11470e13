// The command line; trt_runner.cpp lists it.
#pragma once

#include <NvInfer.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support.hpp"

// The smallest, the usual and the largest shape of an input.
using Profile = std::array<nvinfer1::Dims, 3>;

struct Options {
    std::string command;
    std::vector<std::string> files;
    std::vector<std::string> plugins, inputs;
    std::map<std::string, Profile> shapes;
    std::string outputs, cache, float32Layers, layers, json;
    std::size_t workspaceMiB = 4096;
    int rounds = 50, profileRuns = 0;
    bool fp16 = false, tf32 = false, graph = false, verbose = false;
};

inline nvinfer1::Dims dimsOf(const std::string& text) {
    nvinfer1::Dims dims{};
    const char* at = text.c_str();
    for (bool more = true; more;) {
        char* end = nullptr;
        const long size = std::strtol(at, &end, 10);
        more = *end == 'x';
        const bool good = end != at && size > 0 && (more || *end == '\0');
        if (!good || dims.nbDims == nvinfer1::Dims::MAX_DIMS) {
            throw Failure("the shape " + text + " is not spelt like 1x3x480x640");
        }
        dims.d[dims.nbDims++] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(size);
        at = end + 1;
    }
    return dims;
}

// NAME:SHAPE, or NAME:SMALLEST,USUAL,LARGEST. A tensor's name may hold colons itself.
inline std::pair<std::string, Profile> profileOf(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos) throw Failure("--shape needs NAME:SHAPE, not " + text);
    const std::string sizes = text.substr(colon + 1);
    const std::size_t first = sizes.find(','), second = sizes.find(',', first + 1);
    Profile profile;
    if (first == std::string::npos) {
        profile.fill(dimsOf(sizes));
    } else if (second != std::string::npos) {
        profile = {dimsOf(sizes.substr(0, first)),
                   dimsOf(sizes.substr(first + 1, second - first - 1)),
                   dimsOf(sizes.substr(second + 1))};
    } else {
        throw Failure("--shape needs one shape or three, not " + text);
    }
    return {text.substr(0, colon), profile};
}

inline int countOf(const std::string& flag, const std::string& text) {
    char* end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || value < 0 || value > 1000000) {
        throw Failure(flag + " needs a number, not " + text);
    }
    return static_cast<int>(value);
}

inline Options parseOptions(int argc, char** argv) {
    Options o;
    const std::map<std::string, std::string*> texts = {
        {"--outputs", &o.outputs}, {"--cache", &o.cache}, {"--float32-layers", &o.float32Layers},
        {"--layers", &o.layers},   {"--json", &o.json}};
    const std::map<std::string, bool*> switches = {
        {"--fp16", &o.fp16}, {"--tf32", &o.tf32}, {"--graph", &o.graph}, {"--verbose", &o.verbose}};
    std::vector<std::string> words(argv + 1, argv + argc);
    for (auto word = words.begin(); word != words.end(); ++word) {
        const std::string flag = *word;
        const auto value = [&] {
            if (++word == words.end()) throw Failure(flag + " needs a value");
            return *word;
        };
        if (const auto found = texts.find(flag); found != texts.end()) {
            *found->second = value();
        } else if (const auto known = switches.find(flag); known != switches.end()) {
            *known->second = true;
        } else if (flag == "--plugin") {
            o.plugins.push_back(value());
        } else if (flag == "--inputs") {
            o.inputs.push_back(value());
        } else if (flag == "--shape") {
            o.shapes.insert(profileOf(value()));
        } else if (flag == "--workspace") {
            o.workspaceMiB = static_cast<std::size_t>(countOf(flag, value()));
        } else if (flag == "--rounds") {
            o.rounds = std::max(1, countOf(flag, value()));
        } else if (flag == "--profile") {
            o.profileRuns = countOf(flag, value());
        } else if (flag.rfind("--", 0) == 0) {
            throw Failure("the option " + flag + " is unknown");
        } else if (o.command.empty()) {
            o.command = flag;
        } else {
            o.files.push_back(flag);
        }
    }
    const std::size_t files = o.files.size();
    const bool good = (o.command == "facts" && files == 0) ||
                      (o.command == "build" && files == 2) ||
                      (o.command == "run" && files == 1 && !o.inputs.empty()) ||
                      (o.command == "time" && files >= 1 && !o.inputs.empty());
    if (!good) {
        throw Failure("usage: trt_runner facts | build MODEL ENGINE | run ENGINE --inputs DIR... | "
                      "time ENGINE... --inputs DIR...");
    }
    return o;
}

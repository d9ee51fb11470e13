// What a bundle says of itself, read from its manifest.json (pagdeploy/manifest.py writes it, and
// manifest_schema.json is made of what that takes).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pagdeploy/pagdeploy.h"

namespace pagdeploy::runtime {

constexpr int kFormatVersion = 3;

struct TensorSpec {
    std::string name;
    pag_dtype dtype;
    std::vector<std::int64_t> shape;      // -1 where dynamic
    std::vector<std::string> dimNames;    // of dynamic sizes, else ""
    std::vector<std::int64_t> sampleShape;
    double sampleRange[2];
};

struct GateSpec {
    std::string name;
    std::vector<double> density;  // per branch
};

struct Manifest {
    std::string text;
    std::string flavour;
    std::string version;  // of the runtime that it was built with
    std::string engineFile;
    std::vector<std::string> libraries;  // of our onnxruntime ops
    std::vector<std::string> plugins;    // of TensorRT
    bool hasPlan = false;
    bool versionCompatible = false;
    bool embedsPlugins = false;
    std::vector<TensorSpec> inputs;
    std::vector<TensorSpec> outputs;
    std::vector<GateSpec> gates;
    std::map<std::string, std::string> files;  // SHA-256 by name
};

// Throws Problem where the text is no manifest, is of another format version, or is not the one that
// its digest was made of. `source` is the file that it was read from, which the messages name.
Manifest parseManifest(std::string text, const std::filesystem::path& source);

}  // namespace pagdeploy::runtime

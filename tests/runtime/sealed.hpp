// Bundles of the tests' own making, sealed as Python seals them.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "core/sha256.hpp"

namespace pagdeploy::runtime {

// A folder that goes with its owner.
class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "pagdeploy-XXXXXX").string();
        path_ = mkdtemp(name.data());
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path_); }

    const std::filesystem::path& path() const { return path_; }

    void write(const std::string& name, const std::string& bytes) const {
        std::filesystem::create_directories((path_ / name).parent_path());
        std::ofstream(path_ / name, std::ios::binary) << bytes;
    }

private:
    std::filesystem::path path_;
};

// `by` in the place of `part`, which has to be there.
inline std::string replaced(std::string text, const std::string& part, const std::string& by) {
    const std::size_t at = text.find(part);
    EXPECT_NE(at, std::string::npos) << part;
    return text.replace(at, part.size(), by);
}

inline std::string sealed(std::string text) {
    const std::string zeros(64, '0');
    return replaced(text, zeros, sha256(text));
}

using Files = std::map<std::string, std::string>;  // contents by name

inline std::string manifestOf(const Files& files) {
    std::string listed;
    for (const auto& [name, bytes] : files) {
        listed += (listed.empty() ? "\"" : ", \"") + name + "\": \"" + sha256(bytes) + "\"";
    }
    return R"({"format": "pagbundle", "format_version": 3, "pagdeploy_version": "0.1.0",
        "engine": {"flavour": "onnxruntime", "version": "1.20.1", "file": "engine.onnx",
                   "lowering": "dense", "precision": "fp32", "libraries": []},
        "host": {"system": "Linux", "machine": "x86_64", "python": "3.11.2"},
        "source_sha256": "s",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 3], "sample_shape": [1, 3],
                    "sample_range": [0.0, 1.0]}],
        "outputs": [{"name": "y", "dtype": "int64", "shape": [2], "sample_shape": [2],
                     "sample_range": [0, 7]}],
        "gates": [{"name": "g", "logits": "l", "selection": "s", "density": [0.25, 0.75]}],
        "ops": [],
        "files": {)" +
           listed + R"(}, "digest": ")" + std::string(64, '0') + "\"}\n";
}

}  // namespace pagdeploy::runtime

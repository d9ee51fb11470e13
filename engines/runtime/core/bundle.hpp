// A bundle: every file is there and is the one that the manifest vouches for.
#pragma once

#include <filesystem>
#include <string>

#include "core/manifest.hpp"

namespace pagdeploy::runtime {

class Bundle {
public:
    // Throws Problem; nothing of any file but the manifest is interpreted.
    explicit Bundle(const std::filesystem::path& folder);

    const Manifest& manifest() const { return manifest_; }
    const std::filesystem::path& folder() const { return folder_; }

    // The bytes of a file, hashed once more as they are read: what was checked is what runs.
    std::string bytesOf(const std::string& name) const;
    std::filesystem::path file(const std::string& name) const;

private:
    void checkFiles() const;

    std::filesystem::path folder_;
    Manifest manifest_;
};

}  // namespace pagdeploy::runtime

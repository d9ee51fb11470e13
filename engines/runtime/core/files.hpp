// Files of a bundle: names come from manifests that nobody vouches for yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace pagdeploy::runtime {

// The path of `name` in a folder. Throws Problem where it is absolute, leaves the folder, or leads
// out by a link.
std::filesystem::path inside(const std::filesystem::path& folder, const std::string& name);

// All bytes of a file. Throws Problem where there is no plain file, it cannot be read, or it is
// larger than `most`.
std::string readFile(const std::filesystem::path& path, std::uintmax_t most);

// Of the bytes as they are read; the file is not kept. Throws as readFile.
std::string sha256OfFile(const std::filesystem::path& path);

// A path that holds these bytes for as long as the process lives, and that nobody else can write to:
// what is loaded from it is what was hashed. The same bytes get the same path.
std::string privateCopy(const std::string& bytes);

}  // namespace pagdeploy::runtime

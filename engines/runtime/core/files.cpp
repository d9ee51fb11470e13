#include "core/files.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <system_error>

#include "core/problem.hpp"
#include "core/sha256.hpp"

namespace pagdeploy::runtime {

namespace fs = std::filesystem;

namespace {

// Whether a name has only parts that lead further in, in the one spelling that manifests have.
bool isPlain(const std::string& name) {
    const bool drive = name.size() > 1 && name[1] == ':' &&
                       std::isalpha(static_cast<unsigned char>(name[0])) != 0;
    if (name.empty() || name.front() == '/' || drive ||
        name.find_first_of(std::string("\\\0", 2)) != std::string::npos) {
        return false;
    }
    const fs::path path(name);
    return std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

bool isWithin(const fs::path& folder, const fs::path& path) {
    return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
           folder.end();
}

std::ifstream opened(const fs::path& path) {
    std::error_code error;
    std::ifstream stream;
    if (fs::is_regular_file(path, error)) {  // a pipe would block, a folder opens but does not read
        stream.open(path, std::ios::binary);
    }
    if (!stream.is_open()) {
        throw Problem(PAG_INCOMPATIBLE, "The file " + path.string() + " is missing or cannot be read.",
                      "Copy the bundle again, or build it again.");
    }
    return stream;
}

}  // namespace

fs::path inside(const fs::path& folder, const std::string& name) {
    if (isPlain(name)) {
        std::error_code error;
        const fs::path root = fs::weakly_canonical(folder, error);
        const fs::path path = error ? fs::path() : fs::weakly_canonical(folder / name, error);
        if (!error && isWithin(root, path)) {
            return folder / name;
        }
    }
    throw Problem(PAG_INCOMPATIBLE,
                  folder.string() + " names the file '" + name + "', which lies outside of it.",
                  "Do not use this bundle; get it again from a source you trust.");
}

std::string readFile(const fs::path& path, std::uintmax_t most) {
    std::ifstream stream = opened(path);
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path, error);
    if (error || size > most) {
        throw Problem(PAG_INCOMPATIBLE,
                      "The file " + path.string() + " is larger than any that pagdeploy writes.",
                      "Copy the bundle again, or build it again.");
    }
    std::string bytes(static_cast<std::size_t>(size), '\0');
    stream.read(bytes.data(), static_cast<std::streamsize>(size));
    bytes.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, stream.gcount())));
    return bytes;
}

std::string sha256OfFile(const fs::path& path) {
    std::ifstream stream = opened(path);
    Sha256 digest;
    std::array<char, 1 << 16> block;
    while (stream) {
        stream.read(block.data(), block.size());
        digest.update({block.data(), static_cast<std::size_t>(stream.gcount())});
    }
    return digest.hexadecimal();
}

}  // namespace pagdeploy::runtime

#include "core/bundle.hpp"

#include <algorithm>
#include <system_error>

#include "core/files.hpp"
#include "core/problem.hpp"
#include "core/sha256.hpp"

namespace pagdeploy::runtime {

namespace fs = std::filesystem;

namespace {

constexpr auto kManifest = "manifest.json";
// What every build writes beside the engine (pagdeploy/bundle.py).
constexpr const char* kAlwaysThere[] = {"model.onnx", "sample/inputs.npz", "sample/outputs.npz"};
constexpr std::uintmax_t kLargestManifest = 64u << 20;
constexpr std::uintmax_t kLargestFile = std::uintmax_t{64} << 30;
constexpr auto kUntrusted = "Do not use it; build it again, or get it again from a source you trust.";

Problem changed(const fs::path& folder, const std::string& name) {
    return {PAG_INCOMPATIBLE,
            folder.string() + " was changed: '" + name + "' is not the file that was built.", kUntrusted};
}

Manifest readManifest(const fs::path& folder) {
    const fs::path source = folder / kManifest;
    std::error_code error;
    if (!fs::is_regular_file(source, error)) {
        throw Problem(PAG_USAGE, folder.string() + " is not a bundle: it has no manifest.json.",
                      "Give the folder that 'pagdeploy build' wrote.");
    }
    return parseManifest(readFile(source, kLargestManifest), source);
}

}  // namespace

Bundle::Bundle(const fs::path& folder) : folder_(folder), manifest_(readManifest(folder)) {
    checkFiles();
}

void Bundle::checkFiles() const {
    for (const auto& [name, digest] : manifest_.files) {
        inside(folder_, name);
    }
    inside(folder_, manifest_.engineFile);
    for (const auto& [name, digest] : manifest_.files) {
        const fs::path path = inside(folder_, name);
        std::error_code error;
        if (!fs::is_regular_file(path, error)) {
            throw Problem(PAG_INCOMPATIBLE, folder_.string() + " lacks its file '" + name + "'.",
                          kUntrusted);
        }
        if (sha256OfFile(path) != digest) {
            throw changed(folder_, name);
        }
    }
    std::error_code error;
    for (fs::recursive_directory_iterator at(folder_, error), end; !error && at != end;
         at.increment(error)) {
        const std::string name = at->path().lexically_relative(folder_).generic_string();
        // File managers leave hidden files everywhere.
        const bool known = manifest_.files.count(name) > 0 || name == kManifest ||
                           at->path().filename().string().front() == '.';
        if (!known && !at->is_directory(error)) {
            throw Problem(PAG_INCOMPATIBLE,
                          folder_.string() + " holds the file '" + name +
                              "', which its manifest does not list.",
                          "Remove it if it is yours; if not, build the bundle again.");
        }
    }
    if (error) {
        throw Problem(PAG_INCOMPATIBLE, folder_.string() + " cannot be read (" + error.message() + ").",
                      "Check who may read it.");
    }
    for (const char* const name : kAlwaysThere) {
        file(name);
    }
    file(manifest_.engineFile);
    for (const auto* names : {&manifest_.libraries, &manifest_.plugins}) {
        std::for_each(names->begin(), names->end(), [this](const std::string& name) { file(name); });
    }
}

fs::path Bundle::file(const std::string& name) const {
    if (manifest_.files.count(name) == 0) {
        throw Problem(PAG_INCOMPATIBLE, folder_.string() + " does not hold the file '" + name + "'.",
                      kUntrusted);
    }
    return inside(folder_, name);
}

std::string Bundle::bytesOf(const std::string& name) const {
    std::string bytes = readFile(file(name), kLargestFile);
    if (sha256(bytes) != manifest_.files.at(name)) {
        throw changed(folder_, name);
    }
    return bytes;
}

}  // namespace pagdeploy::runtime

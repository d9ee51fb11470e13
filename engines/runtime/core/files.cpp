#include "core/files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <system_error>
#include <vector>

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

// A plain file that is open for reading. Its kind and its size are asked of what is open, not of the
// path, which may lead elsewhere a moment later.
class OpenFile {
public:
    explicit OpenFile(const fs::path& path)
        : path_(path), descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
        struct stat about {};
        if (descriptor_ >= 0 && fstat(descriptor_, &about) == 0 && S_ISREG(about.st_mode)) {
            bytes_ = static_cast<std::uintmax_t>(about.st_size);
            return;
        }
        if (descriptor_ >= 0) {
            close(descriptor_);  // a pipe would block, a folder does not read
        }
        throw unreadable();
    }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;
    ~OpenFile() { close(descriptor_); }

    std::uintmax_t bytes() const { return bytes_; }

    // Returns how much there was; 0 at the end.
    std::size_t read(char* to, std::size_t most) const {
        ssize_t count = -1;
        do {
            count = ::read(descriptor_, to, std::min<std::size_t>(most, 1u << 30));
        } while (count < 0 && errno == EINTR);
        if (count < 0) {
            throw unreadable();
        }
        return static_cast<std::size_t>(count);
    }

private:
    Problem unreadable() const {
        return {PAG_INCOMPATIBLE, "The file " + path_.string() + " is missing or cannot be read.",
                "Copy the bundle again, or build it again."};
    }

    fs::path path_;
    int descriptor_;
    std::uintmax_t bytes_ = 0;
};

Problem noPrivateCopy() {
    return {PAG_ENVIRONMENT,
            std::string("A library of the bundle cannot be copied into memory (") +
                std::strerror(errno) + ").",
            "Install the library beside the runtime."};
}

}  // namespace

fs::path inside(const fs::path& folder, const std::string& name) {
    if (isPlain(name)) {
        std::error_code error;
        const fs::path root = fs::weakly_canonical(folder, error);
        const fs::path path = error ? fs::path() : fs::weakly_canonical(folder / name, error);
        // No file has a name that is too long, so there is none to lead out.
        if (error == std::errc::filename_too_long || (!error && isWithin(root, path))) {
            return folder / name;
        }
    }
    throw Problem(PAG_INCOMPATIBLE,
                  folder.string() + " names the file '" + name + "', which lies outside of it.",
                  "Do not use this bundle; get it again from a source you trust.");
}

std::string readFile(const fs::path& path, std::uintmax_t most) {
    const OpenFile file(path);
    if (file.bytes() > most) {
        throw Problem(PAG_INCOMPATIBLE,
                      "The file " + path.string() + " is larger than any that pagdeploy writes.",
                      "Copy the bundle again, or build it again.");
    }
    std::string bytes(static_cast<std::size_t>(file.bytes()), '\0');
    std::size_t filled = 0;
    while (filled < bytes.size()) {
        const std::size_t count = file.read(bytes.data() + filled, bytes.size() - filled);
        if (count == 0) {
            break;  // it became shorter meanwhile
        }
        filled += count;
    }
    bytes.resize(filled);
    return bytes;
}

std::string sha256OfFile(const fs::path& path) {
    const OpenFile file(path);
    Sha256 digest;
    std::vector<char> block(1 << 16);
    while (const std::size_t count = file.read(block.data(), block.size())) {
        digest.update({block.data(), count});
    }
    return digest.hexadecimal();
}

std::string privateCopy(const std::string& bytes) {
    static std::mutex making;
    static std::map<std::string, std::string> made;  // path by digest; their number is small
    const std::string digest = sha256(bytes);
    const std::lock_guard lock(making);
    std::string& path = made[digest];
    if (!path.empty()) {
        return path;
    }
    // It stays open: the loader knows libraries by their path, which must not come to mean another.
    const int descriptor = memfd_create("pagdeploy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0) {
        throw noPrivateCopy();
    }
    std::size_t written = 0;
    while (written < bytes.size()) {
        const ssize_t count = write(descriptor, bytes.data() + written, bytes.size() - written);
        if (count < 0 && errno != EINTR) {
            const Problem problem = noPrivateCopy();
            close(descriptor);
            throw problem;
        }
        written += count < 0 ? 0 : static_cast<std::size_t>(count);
    }
    fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    path = "/proc/self/fd/" + std::to_string(descriptor);
    return path;
}

}  // namespace pagdeploy::runtime

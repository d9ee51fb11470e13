// What every part of the runner uses: one-sentence failures, files, and JSON.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void checkCuda(cudaError_t status, const char* action) {
    if (status != cudaSuccess) {
        throw Failure(std::string(action) + " failed: " + cudaGetErrorString(status));
    }
}

inline std::vector<char> readFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Failure("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void writeFile(const std::string& path, const void* data, std::size_t bytes) {
    std::ofstream file(path, std::ios::binary);
    file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    if (!file.flush()) throw Failure("cannot write " + path);
}

// Tensor names hold slashes and dots; the script that reads the files applies the same rule.
inline std::string fileOf(const std::string& folder, const std::string& tensor) {
    std::string name = tensor;
    for (char& c : name) {
        const bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
        if (!kept) c = '_';
    }
    return folder + "/" + name + ".bin";
}

namespace json {

inline std::string text(const std::string& value) {
    std::string quoted = "\"";
    for (const char c : value) {
        if (c == '"' || c == '\\') quoted += '\\';
        if (static_cast<unsigned char>(c) < 0x20) {
            quoted += ' ';
        } else {
            quoted += c;
        }
    }
    return quoted + '"';
}

inline std::string number(double value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.6g", value);
    return digits;
}

// An object or a list under construction; members are JSON already.
class Node {
public:
    explicit Node(char open) : text_(1, open), close_(open == '{' ? '}' : ']') {}

    Node& add(const std::string& member) {
        if (text_.size() > 1) text_ += ", ";
        text_ += member;
        return *this;
    }
    Node& add(const std::string& key, const std::string& value) {
        return add(text(key) + ": " + value);
    }
    std::string str() const { return text_ + close_; }

private:
    std::string text_;
    char close_;
};

}  // namespace json

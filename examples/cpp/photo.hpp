// Photos in and arrays out, as `pagdeploy run` reads and writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <pagdeploy/pagdeploy.hpp>

// RGB in [0, 1], float32 (1, 3, height, width): each byte divided by 255, as in Python.
struct Photo {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::vector<float> pixels;

    pagdeploy::Shape shape() const { return {1, 3, height, width}; }
};

// A PPM file with 8 bits a channel ("P6"), which every image tool writes.
inline Photo readPhoto(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const auto number = [&file, &path] {
        std::int64_t value = 0;
        while (file >> std::ws && file.peek() == '#') {
            file.ignore(1 << 16, '\n');
        }
        if (!(file >> value) || value < 1 || value > 1 << 15) {
            throw std::runtime_error(path + " is not a PPM file (P6) of 8 bits a channel.");
        }
        return value;
    };
    std::string magic(2, ' ');
    file.read(magic.data(), 2);
    if (magic != "P6") {
        throw std::runtime_error(path + " is not a PPM file (P6) of 8 bits a channel.");
    }
    Photo photo;
    photo.width = number();
    photo.height = number();
    const std::int64_t largest = number();
    file.get();
    const auto area = static_cast<std::size_t>(photo.width * photo.height);
    std::vector<unsigned char> bytes(3 * area);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (largest != 255 || !file) {
        throw std::runtime_error(path + " is cut off, or has not 8 bits a channel.");
    }
    photo.pixels.resize(3 * area);
    for (std::size_t channel = 0; channel < 3; ++channel) {
        for (std::size_t i = 0; i < area; ++i) {
            photo.pixels[channel * area + i] = static_cast<float>(bytes[3 * i + channel]) / 255.0f;
        }
    }
    return photo;
}

// A .npy file, as numpy.load reads it.
inline void writeArray(const std::string& path, const pagdeploy::Tensor& tensor) {
    const auto kind = [&tensor]() -> const char* {
        switch (tensor.dtype) {
            case PAG_FLOAT32: return "<f4";
            case PAG_FLOAT64: return "<f8";
            case PAG_FLOAT16: return "<f2";
            case PAG_INT64: return "<i8";
            case PAG_INT32: return "<i4";
            case PAG_INT8: return "|i1";
            case PAG_UINT8: return "|u1";
            case PAG_BOOL: return "|b1";
            default: throw std::runtime_error("numpy has no such dtype.");
        }
    };
    std::string header = std::string("{'descr': '") + kind() + "', 'fortran_order': False, 'shape': (";
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
        header += (axis == 0 ? "" : " ") + std::to_string(tensor.shape[axis]);
        header += tensor.shape.size() == 1 || axis + 1 < tensor.shape.size() ? "," : "";
    }
    header += "), }";
    header.append(63 - (header.size() + 10) % 64, ' ');
    header += '\n';
    const char start[] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<char>(header.size() % 256),
                          static_cast<char>(header.size() / 256)};
    std::ofstream file(path, std::ios::binary);
    file.write(start, sizeof start);
    file << header;
    file.write(static_cast<const char*>(tensor.data), static_cast<std::streamsize>(tensor.bytes));
    if (!file) {
        throw std::runtime_error(path + " cannot be written.");
    }
}

// PAGDEPLOY_RUNTIME_LIBRARY names onnxruntime's or TensorRT's library where the loader does not find
// it; PAGDEPLOY_ALLOW_HOST_CODE=1 says that whoever built the bundle is trusted.
inline pagdeploy::EngineOptions optionsOfEnvironment() {
    pagdeploy::EngineOptions options;
    const char* const library = std::getenv("PAGDEPLOY_RUNTIME_LIBRARY");
    const char* const trust = std::getenv("PAGDEPLOY_ALLOW_HOST_CODE");
    options.runtimeLibrary = library == nullptr ? "" : library;
    options.allowHostCode = trust != nullptr && std::string(trust) == "1";
    return options;
}

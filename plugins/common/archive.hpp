// Attributes to bytes and back, for plugin interfaces that store a blob in the engine.
#pragma once

#include "common/fields.hpp"

namespace pagdeploy {

// Every value is four bytes, little-endian as on all machines that TensorRT runs on:
// the version of this format, then for each attribute the number of its values and the values.
constexpr std::int32_t kArchiveVersion = 1;

template <typename Op>
std::vector<char> packAttributes(const typename Op::Attributes& attributes) {
    const std::vector<FieldView> fields = fieldsOf<Op>(attributes);
    std::size_t size = sizeof kArchiveVersion;
    for (const FieldView& field : fields) {
        size += sizeof field.length + 4 * static_cast<std::size_t>(field.length);
    }
    std::vector<char> bytes(size);
    char* next = bytes.data();
    const auto put = [&next](const void* data, std::size_t count) {
        if (count > 0) {
            std::memcpy(next, data, count);
            next += count;
        }
    };
    put(&kArchiveVersion, sizeof kArchiveVersion);
    for (const FieldView& field : fields) {
        put(&field.length, sizeof field.length);
        put(field.data, 4 * static_cast<std::size_t>(field.length));
    }
    return bytes;
}

template <typename Op>
typename Op::Attributes unpackAttributes(const void* data, std::size_t size) {
    const char* next = static_cast<const char*>(data);
    std::size_t left = next == nullptr ? 0 : size;
    const auto take = [&](std::size_t count) {
        PAG_CHECK(count <= left, "the engine holds too few bytes for the attributes");
        const char* const taken = next;
        next += count;
        left -= count;
        return taken;
    };
    const auto takeInt = [&] {
        std::int32_t value = 0;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    };
    const std::int32_t version = takeInt();
    PAG_CHECK(version == kArchiveVersion,
              "the engine holds attributes in format " + std::to_string(version) +
                  ", and this library reads format " + std::to_string(kArchiveVersion));
    // The names and types of the fields are the op's own; the bytes bring lengths and values.
    const typename Op::Attributes defaults;
    std::vector<FieldView> fields = fieldsOf<Op>(defaults);
    for (FieldView& field : fields) {
        field.length = takeInt();
        PAG_CHECK(field.length >= 0, "the engine holds a negative number of values");
        field.data = take(4 * static_cast<std::size_t>(field.length));
    }
    PAG_CHECK(left == 0, "the engine holds too many bytes for the attributes");
    return attributesFrom<Op>(fields);
}

}  // namespace pagdeploy

// Attributes of an op from named fields, and to and from bytes, one attribute at a time.
//
// `Op` here and below is the plugin's core: it names its attributes (`Attributes`), walks over
// them (`visit`) and knows which values are possible (`checkAttributes`).
#pragma once

#include "common/check.hpp"

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace pagdeploy {

enum class FieldType { kInt32, kFloat32, kOther };

// A field as a TensorRT parser or engine hands it over. The data is borrowed.
struct FieldView {
    const char* name;
    const void* data;
    FieldType type;
    std::int32_t length;
};

template <typename Value>
struct FieldTraits;
template <>
struct FieldTraits<std::int32_t> {
    static constexpr FieldType kType = FieldType::kInt32;
    static constexpr const char* kText = "one int32";
};
template <>
struct FieldTraits<float> {
    static constexpr FieldType kType = FieldType::kFloat32;
    static constexpr const char* kText = "one float32";
};
template <>
struct FieldTraits<std::vector<std::int32_t>> {
    static constexpr FieldType kType = FieldType::kInt32;
    static constexpr const char* kText = "int32 values";
};

namespace detail {

inline std::string quoted(const char* name) { return "'" + std::string(name) + "'"; }

template <typename Value>
void checkField(const FieldView& field, bool lengthFits) {
    const bool hasData = field.length == 0 || field.data != nullptr;
    PAG_CHECK(field.type == FieldTraits<Value>::kType && lengthFits && hasData,
              "attribute " + quoted(field.name) + " must be " + FieldTraits<Value>::kText +
                  "; the field has another type or length");
}

template <typename Number>
void readField(const FieldView& field, Number& value) {
    checkField<Number>(field, field.length == 1);
    std::memcpy(&value, field.data, sizeof value);
}

inline void readField(const FieldView& field, std::vector<std::int32_t>& values) {
    checkField<std::vector<std::int32_t>>(field, field.length >= 0);
    values.resize(static_cast<std::size_t>(field.length));
    if (field.length > 0) {
        std::memcpy(values.data(), field.data, values.size() * sizeof(std::int32_t));
    }
}

}  // namespace detail

// Fields may come in any order. An absent one keeps its default, if the op has one.
template <typename Op>
typename Op::Attributes attributesFrom(const std::vector<FieldView>& fields) {
    typename Op::Attributes attributes;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        const FieldView& field = fields[i];
        PAG_CHECK(field.name != nullptr, "a field has no name");
        for (std::size_t earlier = 0; earlier < i; ++earlier) {
            PAG_CHECK(std::strcmp(fields[earlier].name, field.name) != 0,
                      "attribute " + detail::quoted(field.name) + " is given twice");
        }
        bool known = false;
        Op::visit(attributes, [&](const char* name, auto& value) {
            if (std::strcmp(name, field.name) == 0) {
                known = true;
                detail::readField(field, value);
            }
        });
        PAG_CHECK(known, "there is no attribute " + detail::quoted(field.name));
    }
    Op::checkAttributes(attributes);
    return attributes;
}

// The fields of `attributes`, pointing into it.
template <typename Op>
std::vector<FieldView> fieldsOf(const typename Op::Attributes& attributes) {
    std::vector<FieldView> fields;
    Op::visit(attributes, [&](const char* name, const auto& value) {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, std::vector<std::int32_t>>) {
            fields.push_back({name, value.data(), FieldType::kInt32,
                              static_cast<std::int32_t>(value.size())});
        } else {
            fields.push_back({name, &value, FieldTraits<Value>::kType, 1});
        }
    });
    return fields;
}

// "kernel_shape=3,3;strides=1,1;": equal texts mean equal attributes.
template <typename Op>
std::string textOfAttributes(const typename Op::Attributes& attributes) {
    std::string text;
    for (const FieldView& field : fieldsOf<Op>(attributes)) {
        text += std::string(field.name) + "=";
        for (std::int32_t i = 0; i < field.length; ++i) {
            // Bits, not decimals: two floats that print alike are still two values.
            std::int32_t bits = 0;
            std::memcpy(&bits, static_cast<const char*>(field.data) + 4 * i, sizeof bits);
            text += (i == 0 ? "" : ",") + std::to_string(bits);
        }
        text += ";";
    }
    return text;
}

}  // namespace pagdeploy

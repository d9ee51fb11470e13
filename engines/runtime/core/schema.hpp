// Whether a JSON value is of the form that a schema describes.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace pagdeploy::runtime {

// Knows the part of JSON Schema that manifest_schema.json is written in, and throws std::logic_error at
// any other keyword: what is not checked must not be taken for checked.
bool fits(const nlohmann::json& value, const nlohmann::json& schema);

}  // namespace pagdeploy::runtime

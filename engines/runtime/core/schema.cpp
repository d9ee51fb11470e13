#include "core/schema.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace pagdeploy::runtime {

namespace {

using Json = nlohmann::json;

bool isOfType(const Json& value, const std::string& type) {
    if (type == "object") {
        return value.is_object();
    }
    if (type == "array") {
        return value.is_array();
    }
    if (type == "string") {
        return value.is_string();
    }
    if (type == "integer") {
        return value.is_number_integer();
    }
    if (type == "number") {
        return value.is_number();
    }
    if (type == "boolean") {
        return value.is_boolean();
    }
    if (type == "null") {
        return value.is_null();
    }
    throw std::logic_error("a schema names the type " + type);
}

bool fits(const Json& value, const Json& schema, const Json& root);

bool haveForms(const Json& object, const Json& schema, const Json& root) {
    const Json none = Json::object();
    const Json& properties = schema.contains("properties") ? schema["properties"] : none;
    const auto others = schema.find("additionalProperties");
    for (const auto& [key, entry] : object.items()) {
        if (const auto known = properties.find(key); known != properties.end()) {
            if (!fits(entry, *known, root)) {
                return false;
            }
        } else if (others != schema.end() && (*others == false || !fits(entry, *others, root))) {
            return false;
        }
    }
    return true;
}

bool keepsTo(const Json& value, const std::string& keyword, const Json& schema, const Json& root) {
    const Json& rule = schema[keyword];
    if (keyword == "$defs") {
        return true;
    }
    if (keyword == "$ref") {  // "#/$defs/NAME"
        return fits(value, root.at(Json::json_pointer(rule.get<std::string>().substr(1))), root);
    }
    if (keyword == "anyOf") {
        return std::any_of(rule.begin(), rule.end(),
                           [&](const Json& one) { return fits(value, one, root); });
    }
    if (keyword == "const") {
        return value == rule;
    }
    if (keyword == "enum") {
        return std::find(rule.begin(), rule.end(), value) != rule.end();
    }
    if (keyword == "type") {
        return isOfType(value, rule.get_ref<const std::string&>());
    }
    if (keyword == "minimum") {
        return !value.is_number() || value >= rule;
    }
    if (keyword == "maximum") {
        return !value.is_number() || value <= rule;
    }
    if (keyword == "minItems") {
        return !value.is_array() || value.size() >= rule.get<std::size_t>();
    }
    if (keyword == "maxItems") {
        return !value.is_array() || value.size() <= rule.get<std::size_t>();
    }
    if (keyword == "items") {
        return !value.is_array() || std::all_of(value.begin(), value.end(), [&](const Json& item) {
            return fits(item, rule, root);
        });
    }
    if (keyword == "prefixItems") {
        for (std::size_t i = 0; value.is_array() && i < std::min(value.size(), rule.size()); ++i) {
            if (!fits(value[i], rule[i], root)) {
                return false;
            }
        }
        return true;
    }
    if (keyword == "required") {
        return !value.is_object() || std::all_of(rule.begin(), rule.end(), [&](const Json& name) {
            return value.contains(name.get_ref<const std::string&>());
        });
    }
    if (keyword == "properties" || keyword == "additionalProperties") {
        return !value.is_object() || haveForms(value, schema, root);
    }
    throw std::logic_error("a schema uses the keyword " + keyword);
}

// A schema refers to parts of itself, so its recursion, and ours, is as deep as it is.
bool fits(const Json& value, const Json& schema, const Json& root) {
    const auto rules = schema.items();
    return std::all_of(rules.begin(), rules.end(), [&](const auto& rule) {
        return keepsTo(value, rule.key(), schema, root);
    });
}

}  // namespace

bool fits(const Json& value, const Json& schema) { return fits(value, schema, schema); }

}  // namespace pagdeploy::runtime

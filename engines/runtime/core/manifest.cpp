#include "core/manifest.hpp"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "core/problem.hpp"
#include "core/sha256.hpp"
#include "dtype.hpp"

namespace pagdeploy::runtime {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kDigestSize = 64;

// What no build writes: any of these makes a manifest foreign, so they need no text of their own.
struct Malformed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

pag_dtype dtypeOf(const std::string& name) {
    for (const NamedDtype& known : kDtypes) {
        if (name == known.name) {
            return known.dtype;
        }
    }
    throw Malformed("dtype");
}

std::int64_t sizeOf(const Json& value) {
    if (!value.is_number_integer()) {
        throw Malformed("size");
    }
    const auto size = value.get<std::int64_t>();
    if (size < 0 || size > std::numeric_limits<std::int32_t>::max()) {
        throw Malformed("size");
    }
    return size;
}

double numberOf(const Json& value) {
    return value.is_null() ? std::nan("") : value.get<double>();  // JSON has no NaN
}

TensorSpec tensorOf(const Json& json) {
    TensorSpec tensor{json.at("name").get<std::string>(),
                      dtypeOf(json.at("dtype").get_ref<const std::string&>()),
                      {},
                      {},
                      {},
                      {numberOf(json.at("sample_range").at(0)), numberOf(json.at("sample_range").at(1))}};
    for (const Json& size : json.at("shape")) {
        const bool dynamic = size.is_string();
        tensor.shape.push_back(dynamic ? -1 : sizeOf(size));
        tensor.dimNames.push_back(dynamic ? size.get<std::string>() : "");
    }
    for (const Json& size : json.at("sample_shape")) {
        tensor.sampleShape.push_back(sizeOf(size));
    }
    if (tensor.shape.size() > PAG_MAX_RANK || tensor.sampleShape.size() != tensor.shape.size()) {
        throw Malformed("rank");
    }
    return tensor;
}

std::vector<std::string> namesOf(const Json& json, const char* key) {
    const auto found = json.find(key);
    return found == json.end() ? std::vector<std::string>() : found->get<std::vector<std::string>>();
}

void readEngine(const Json& json, Manifest& manifest) {
    manifest.flavour = json.at("flavour").get<std::string>();
    manifest.version = json.at("version").get<std::string>();
    manifest.engineFile = json.at("file").get<std::string>();
    manifest.libraries = namesOf(json, "libraries");
    const auto plan = json.find("plan");
    manifest.hasPlan = plan != json.end() && !plan->is_null();
    if (manifest.hasPlan != (manifest.flavour.rfind("tensorrt", 0) == 0)) {
        throw Malformed("plan");
    }
    if (manifest.hasPlan) {
        manifest.plugins = namesOf(*plan, "plugins");
        manifest.versionCompatible = plan->value("version_compatible", false);
        manifest.embedsPlugins = plan->value("embeds_plugins", false);
    }
}

// The digest covers the file's bytes with zeros in its own place.
bool vouchesForItself(const std::string& text, const std::string& digest) {
    const std::size_t at = text.find(digest);
    if (digest.size() != kDigestSize || at == std::string::npos ||
        text.find(digest, at + 1) != std::string::npos) {
        return false;
    }
    std::string unsealed = text;
    unsealed.replace(at, kDigestSize, kDigestSize, '0');
    return sha256(unsealed) == digest;
}

Manifest parsed(const Json& json) {
    Manifest manifest;
    readEngine(json.at("engine"), manifest);
    for (const Json& tensor : json.at("inputs")) {
        manifest.inputs.push_back(tensorOf(tensor));
    }
    for (const Json& tensor : json.at("outputs")) {
        manifest.outputs.push_back(tensorOf(tensor));
    }
    for (const Json& gate : json.at("gates")) {
        manifest.gates.push_back(
            {gate.at("name").get<std::string>(), gate.at("density").get<std::vector<double>>()});
    }
    manifest.files = json.at("files").get<std::map<std::string, std::string>>();
    return manifest;
}

}  // namespace

Manifest parseManifest(std::string text, const std::string& source) {
    constexpr auto kUntrusted = "Do not use it; build it again, or get it again from a source you trust.";
    const Problem foreign(PAG_INCOMPATIBLE, source + " is not a manifest that pagdeploy wrote.",
                          kUntrusted);
    try {
        const Json json = Json::parse(text);
        const auto version = json.at("format_version").get<std::int64_t>();
        if (json.at("format").get_ref<const std::string&>() != "pagbundle") {
            throw foreign;
        }
        if (version != kFormatVersion) {
            throw Problem(PAG_INCOMPATIBLE,
                          source + " has bundle format " + std::to_string(version) +
                              "; this runtime reads format " + std::to_string(kFormatVersion) + ".",
                          "Build the bundle again with the pagdeploy that this runtime is of.");
        }
        Manifest manifest = parsed(json);
        if (!vouchesForItself(text, json.at("digest").get<std::string>())) {
            throw Problem(PAG_INCOMPATIBLE, source + " was changed after the build.", kUntrusted);
        }
        manifest.text = std::move(text);
        return manifest;
    } catch (const Json::exception&) {
        throw foreign;
    } catch (const Malformed&) {
        throw foreign;
    }
}

}  // namespace pagdeploy::runtime

#include "core/manifest.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
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
constexpr std::string_view kFlavours[] = {"onnxruntime", "onnxruntime-cuda", "tensorrt",
                                          "tensorrt-rtx"};

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

// Names cross the C ABI, where they end at the first zero.
std::string nameOf(const Json& value) {
    auto name = value.get<std::string>();
    if (name.find('\0') != std::string::npos) {
        throw Malformed("name");
    }
    return name;
}

const Json& listOf(const Json& json, const char* key) {
    const Json& list = json.at(key);
    if (!list.is_array()) {  // which a loop would take for a list of its values
        throw Malformed(key);
    }
    return list;
}

TensorSpec tensorOf(const Json& json) {
    TensorSpec tensor{nameOf(json.at("name")),
                      dtypeOf(json.at("dtype").get_ref<const std::string&>()),
                      {},
                      {},
                      {},
                      {numberOf(json.at("sample_range").at(0)), numberOf(json.at("sample_range").at(1))}};
    for (const Json& size : listOf(json, "shape")) {
        const bool dynamic = size.is_string();
        tensor.shape.push_back(dynamic ? -1 : sizeOf(size));
        tensor.dimNames.push_back(dynamic ? nameOf(size) : "");
    }
    for (const Json& size : listOf(json, "sample_shape")) {
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
    if (std::find(std::begin(kFlavours), std::end(kFlavours), manifest.flavour) ==
        std::end(kFlavours)) {
        throw Malformed("flavour");
    }
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
    for (const Json& tensor : listOf(json, "inputs")) {
        manifest.inputs.push_back(tensorOf(tensor));
    }
    for (const Json& tensor : listOf(json, "outputs")) {
        manifest.outputs.push_back(tensorOf(tensor));
    }
    for (const Json& gate : listOf(json, "gates")) {
        manifest.gates.push_back(
            {nameOf(gate.at("name")), gate.at("density").get<std::vector<double>>()});
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
        const Json& number = json.at("format_version");
        if (json.at("format").get_ref<const std::string&>() != "pagbundle" ||
            !number.is_number_integer()) {
            throw foreign;
        }
        const auto version = number.get<std::int64_t>();
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

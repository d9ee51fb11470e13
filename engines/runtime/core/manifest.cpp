#include "core/manifest.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "core/manifest_schema.hpp"
#include "core/problem.hpp"
#include "core/schema.hpp"
#include "core/sha256.hpp"
#include "dtype.hpp"

namespace pagdeploy::runtime {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::json;

constexpr std::size_t kDigestSize = 64;
constexpr auto kUntrusted = "Do not use it; build it again, or get it again from a source you trust.";

// What no build writes: any of these makes a manifest foreign, so they need no text of their own.
struct Malformed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A sound bundle that this library cannot hand out: its ABI counts axes and dtypes.
Problem beyondTheAbi(const std::string& name, const std::string& what) {
    return {PAG_INCOMPATIBLE, "'" + name + "' " + what + ", which the C++ runtime does not take.",
            "Run the bundle from Python, or export the model with another interface."};
}

TensorSpec tensorOf(const Json& json) {
    TensorSpec tensor{};
    tensor.name = json["name"].get<std::string>();
    const std::string& dtype = json["dtype"].get_ref<const std::string&>();
    const auto known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                    [&](const NamedDtype& one) { return dtype == one.name; });
    if (known == std::end(kDtypes)) {
        throw beyondTheAbi(tensor.name, "is of " + dtype);
    }
    tensor.dtype = known->dtype;
    for (const Json& size : json["shape"]) {
        const bool dynamic = size.is_string();
        tensor.shape.push_back(dynamic ? -1 : size.get<std::int64_t>());
        tensor.dimNames.push_back(dynamic ? size.get<std::string>() : "");
    }
    tensor.sampleShape = json["sample_shape"].get<std::vector<std::int64_t>>();
    for (std::size_t i = 0; i < 2; ++i) {
        tensor.sampleRange[i] = json["sample_range"][i].get<double>();
    }
    if (tensor.sampleShape.size() != tensor.shape.size()) {  // the model does not say its rank
        throw beyondTheAbi(tensor.name, "is of any rank");
    }
    if (tensor.shape.size() > PAG_MAX_RANK) {
        throw beyondTheAbi(tensor.name, "has " + std::to_string(tensor.shape.size()) + " axes");
    }
    return tensor;
}

std::vector<std::string> namesOf(const Json& json, const char* key) {
    return json.value(key, std::vector<std::string>());
}

void readEngine(const Json& json, Manifest& manifest) {
    manifest.flavour = json["flavour"].get<std::string>();
    manifest.version = json["version"].get<std::string>();
    manifest.engineFile = json["file"].get<std::string>();
    manifest.libraries = namesOf(json, "libraries");
    const auto plan = json.find("plan");
    manifest.hasPlan = plan != json.end() && !plan->is_null();
    if (manifest.hasPlan != (manifest.flavour.rfind("tensorrt", 0) == 0)) {
        throw Malformed("a plan belongs to TensorRT, and TensorRT to a plan");
    }
    if (manifest.hasPlan) {
        manifest.plugins = namesOf(*plan, "plugins");
        manifest.versionCompatible = plan->value("version_compatible", false);
        manifest.embedsPlugins = plan->value("embeds_plugins", false);
    }
}

// A profile is of an input.
void requireKnownProfiles(const Json& plan, const Manifest& manifest) {
    for (const Json& profile : plan["profiles"]) {
        for (const auto& [name, sizes] : profile.items()) {
            const auto isIt = [&name = name](const TensorSpec& input) { return input.name == name; };
            if (std::none_of(manifest.inputs.begin(), manifest.inputs.end(), isIt)) {
                throw Malformed("a profile of no input");
            }
        }
    }
}

// The digest covers the file's bytes with zeros in its own place.
bool vouchesForItself(const std::string& text, const std::string& digest) {
    const std::size_t at = text.find(digest);
    if (digest.size() != kDigestSize || at == std::string::npos ||
        text.find(digest, at + 1) != std::string::npos) {
        throw Malformed("a manifest carries one digest of itself");
    }
    std::string unsealed = text;
    unsealed.replace(at, kDigestSize, kDigestSize, '0');
    return sha256(unsealed) == digest;
}

Manifest parsed(const Json& json) {
    Manifest manifest;
    readEngine(json["engine"], manifest);
    for (const Json& tensor : json["inputs"]) {
        manifest.inputs.push_back(tensorOf(tensor));
    }
    for (const Json& tensor : json["outputs"]) {
        manifest.outputs.push_back(tensorOf(tensor));
    }
    for (const Json& gate : json["gates"]) {
        manifest.gates.push_back(
            {gate["name"].get<std::string>(), gate["density"].get<std::vector<double>>()});
    }
    manifest.files = json["files"].get<std::map<std::string, std::string>>();
    if (manifest.hasPlan) {
        requireKnownProfiles(json["engine"]["plan"], manifest);
    }
    return manifest;
}

// Throws where it is none of ours, or of another version.
void requireVersion(const Json& json, const fs::path& folder) {
    const Json& number = json.at("format_version");
    const bool isWhole = number.is_number_integer() &&
                         (!number.is_number_unsigned() ||
                          number.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max());
    if (json.at("format") != "pagbundle" || !isWhole) {
        throw Malformed("format");
    }
    const auto version = number.get<std::int64_t>();
    if (version != kFormatVersion) {
        throw Problem(PAG_INCOMPATIBLE,
                      folder.string() + " has bundle format " + std::to_string(version) +
                          "; this pagdeploy reads format " + std::to_string(kFormatVersion) + ".",
                      "Update pagdeploy, or build the bundle again with this one.");
    }
}

Json jsonOf(const std::string& text) {
    const bool hasMark = text.rfind("\xef\xbb\xbf", 0) == 0;  // which JSON does not have
    // Names cross the C ABI, where they end at the first zero.
    if (hasMark || text.find("\\u0000") != std::string::npos) {
        throw Malformed("text");
    }
    return Json::parse(text);
}

}  // namespace

Manifest parseManifest(std::string text, const fs::path& source) {
    static const Json schema = Json::parse(kManifestSchema);
    const Problem foreign(PAG_INCOMPATIBLE,
                          source.string() + " is not a manifest that pagdeploy wrote.", kUntrusted);
    try {
        const Json json = jsonOf(text);
        requireVersion(json, source.parent_path());
        if (!fits(json, schema)) {
            throw foreign;
        }
        Manifest manifest = parsed(json);
        if (!vouchesForItself(text, json.at("digest").get<std::string>())) {
            throw Problem(PAG_INCOMPATIBLE, source.string() + " was changed after the build.", kUntrusted);
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

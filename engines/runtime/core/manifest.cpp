#include "core/manifest.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
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
    if (manifest.hasPlan) {
        manifest.plugins = namesOf(*plan, "plugins");
        manifest.versionCompatible = plan->value("version_compatible", false);
        manifest.embedsPlugins = plan->value("embeds_plugins", false);
    }
}

// What the schema cannot say: a plan is TensorRT's, and a profile is of an input.
void requireAgreement(const Json& json) {
    const Json& engine = json["engine"];
    const auto plan = engine.find("plan");
    const bool hasPlan = plan != engine.end() && !plan->is_null();
    if (hasPlan != (engine["flavour"].get_ref<const std::string&>().rfind("tensorrt", 0) == 0)) {
        throw Malformed("a plan belongs to TensorRT, and TensorRT to a plan");
    }
    if (!hasPlan) {
        return;
    }
    std::set<std::string> inputs;
    for (const Json& input : json["inputs"]) {
        inputs.insert(input["name"].get<std::string>());
    }
    for (const Json& profile : (*plan)["profiles"]) {
        for (const auto& [name, sizes] : profile.items()) {
            if (inputs.count(name) == 0) {
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

// What the parsed value no longer shows, or the schema cannot say. A pass of its own: a callback makes
// nlohmann's parser quadratic in the objects of a list. Each function says whether to go on.
class TextCheck : public Json::json_sax_t {
public:
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_array(std::size_t) override { return true; }
    bool end_array() override { return true; }
    // Names cross the C ABI, where they end at the first zero.
    bool string(string_t& text) override { return text.find('\0') == std::string::npos; }
    bool start_object(std::size_t) override {
        keys_.emplace_back();
        return true;
    }
    // Of a key that is there twice, readers keep one or the other.
    bool key(string_t& name) override { return string(name) && keys_.back().insert(name).second; }
    bool end_object() override {
        keys_.pop_back();
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }

private:
    std::vector<std::set<std::string>> keys_;  // of each object that is open
};

Json jsonOf(const std::string& text) {
    if (text.rfind("\xef\xbb\xbf", 0) == 0) {
        throw Malformed("a mark of the byte order, which JSON does not have");
    }
    Json json = Json::parse(text);
    if (TextCheck check; !Json::sax_parse(text, &check)) {
        throw Malformed("a key that is there twice, or a zero");
    }
    return json;
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
        requireAgreement(json);
        if (!vouchesForItself(text, json.at("digest").get<std::string>())) {
            throw Problem(PAG_INCOMPATIBLE, source.string() + " was changed after the build.", kUntrusted);
        }
        Manifest manifest = parsed(json);
        manifest.text = std::move(text);
        return manifest;
    } catch (const Json::exception&) {
        throw foreign;
    } catch (const Malformed&) {
        throw foreign;
    }
}

}  // namespace pagdeploy::runtime

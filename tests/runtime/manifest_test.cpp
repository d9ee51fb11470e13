// Manifests that a build wrote, and all others.
#include "core/manifest.hpp"

#include <gtest/gtest.h>

#include "core/problem.hpp"
#include "sealed.hpp"

namespace pagdeploy::runtime {
namespace {

const std::string kGood = manifestOf({{"engine.onnx", "e"}});

// The status and the message of a refusal, or an empty message.
std::pair<pag_status, std::string> refusalOf(const std::string& text) {
    try {
        parseManifest(text, "b/m.json");
        return {PAG_OK, ""};
    } catch (const Problem& problem) {
        EXPECT_FALSE(std::string(problem.remedy()).empty());
        return {problem.status(), problem.what()};
    }
}

TEST(Manifest, IsRead) {
    const Manifest manifest = parseManifest(sealed(kGood), "b/m.json");
    EXPECT_EQ(manifest.flavour, "onnxruntime");
    EXPECT_EQ(manifest.engineFile, "engine.onnx");
    EXPECT_FALSE(manifest.hasPlan);
    ASSERT_EQ(manifest.inputs.size(), 1u);
    EXPECT_EQ(manifest.inputs[0].shape, (std::vector<std::int64_t>{-1, 3}));
    EXPECT_EQ(manifest.inputs[0].dimNames, (std::vector<std::string>{"n", ""}));
    EXPECT_EQ(manifest.outputs[0].dtype, PAG_INT64);
    EXPECT_EQ(manifest.outputs[0].sampleRange[1], 7.0);
    EXPECT_EQ(manifest.gates[0].density, (std::vector<double>{0.25, 0.75}));
    EXPECT_EQ(manifest.files.at("engine.onnx"), sha256("e"));
}

TEST(Manifest, EveryChangedByteIsSeen) {
    const std::string good = sealed(kGood);
    for (std::size_t i = 0; i < good.size(); ++i) {
        for (const int bit : {0, 5}) {
            std::string changed = good;
            changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
            EXPECT_EQ(refusalOf(changed).first, PAG_INCOMPATIBLE) << i << changed[i];
        }
        EXPECT_EQ(refusalOf(good.substr(0, i)).first, PAG_INCOMPATIBLE) << i;
    }
    EXPECT_EQ(refusalOf(good + " ").first, PAG_INCOMPATIBLE);
}

TEST(Manifest, OtherVersionsAreNamed) {
    for (const char* version : {"2", "4", "-1"}) {
        const auto [status, message] = refusalOf(
            sealed(replaced(kGood, "\"format_version\": 3", std::string("\"format_version\": ") + version)));
        EXPECT_EQ(status, PAG_INCOMPATIBLE);
        EXPECT_EQ(message, std::string("b has bundle format ") + version +
                               "; this pagdeploy reads format 3.");
    }
}

struct Change {
    const char* what;
    const char* part;
    const char* by;
};

// Each is sealed, as whoever wants to do harm would.
TEST(Manifest, WhatNoBuildWritesIsForeign) {
    const Change changes[] = {
        {"another format", "pagbundle", "magbundle"},
        {"no format", "\"format\": \"pagbundle\",", ""},
        {"a version that is a fraction", "\"format_version\": 3", "\"format_version\": 3.5"},
        {"a version beyond all numbers", "\"format_version\": 3", "\"format_version\": 1e300"},
        {"a version that is text", "\"format_version\": 3", "\"format_version\": \"3\""},
        {"another engine", "\"onnxruntime\"", "\"../evil\""},
        {"an engine of TensorRT without a plan", "\"onnxruntime\"", "\"tensorrt\""},
        {"a plan of onnxruntime", "\"libraries\": []", "\"plan\": {}"},
        {"libraries that are no list", "\"libraries\": []", "\"libraries\": {\"a\": 1}"},
        {"a dtype that is a number", "\"float32\"", "7"},
        {"a negative size", "[\"n\", 3]", "[\"n\", -3]"},
        {"a size beyond int64", "[\"n\", 3]", "[\"n\", 18446744073709551615]"},
        {"a size beyond all numbers", "[\"n\", 3]", "[\"n\", 1e400]"},
        {"a size that is a fraction", "[\"n\", 3]", "[\"n\", 3.5]"},
        {"a shape that is no list", "[\"n\", 3]", "3"},
        {"a range of one number", "[0.0, 1.0]", "[0.0]"},
        {"a name with a zero", "\"name\": \"x\"", "\"name\": \"x\\u0000y\""},
        {"a size's name with a zero", "[\"n\", 3]", "[\"n\\u0000\", 3]"},
        {"a zero behind a backslash", "\"name\": \"x\"", "\"name\": \"x\\\\\\u0000y\""},
        {"a key with a zero", "\"files\": {", "\"files\": {\"a\\u0000\": \"\", "},
        {"an entry twice", "\"ops\": [],", "\"ops\": [], \"ops\": [],"},
        {"a file twice", "\"files\": {", "\"files\": {\"a\": \"x\", \"a\": 5, "},
        {"a version beyond int64", "\"format_version\": 3", "\"format_version\": 18446744073709551615"},
        {"an entry that is unknown", "\"ops\": [],", "\"ops\": [], \"run_this\": \"rm\","},
        {"an entry that lacks", "\"ops\": [],", ""},
        {"another precision", "\"fp32\"", "\"fp8\""},
        {"a range of three numbers", "[0.0, 1.0]", "[0.0, 1.0, 2.0]"},
        {"a number of no end", "[0.0, 1.0]", "[0.0, Infinity]"},
        {"a byte order mark", "{\"format\"", "\xef\xbb\xbf{\"format\""},
        {"a density that is text", "0.25", "\"0.25\""},
        {"inputs that are no list", "\"inputs\": [", "\"inputs\": {}, \"more\": ["},
        {"files that are a list", "\"files\": {", "\"files\": [], \"more\": {"},
        {"no digest", "\"digest\"", "\"digset\""},
        {"bytes that are no text", "\"name\": \"x\"", "\"name\": \"\xff\""},
    };
    for (const Change& change : changes) {
        const auto [status, message] = refusalOf(sealed(replaced(kGood, change.part, change.by)));
        EXPECT_EQ(status, PAG_INCOMPATIBLE) << change.what;
        EXPECT_EQ(message, "b/m.json is not a manifest that pagdeploy wrote.") << change.what;
    }
}

TEST(Manifest, ABackslashBeforeWhatWouldBeAZeroIsSound) {
    const std::string text = replaced(kGood, "\"name\": \"x\"", "\"name\": \"x\\\\u0000y\"");
    EXPECT_EQ(parseManifest(sealed(text), "b/m.json").inputs[0].name, "x\\u0000y");
}

TEST(Manifest, AChangeIsSeenBeforeWhatTheAbiCannotDescribe) {
    EXPECT_EQ(refusalOf(replaced(sealed(kGood), "float32", "uint16")).second,
              "b/m.json was changed after the build.");
}

// Sound, and beyond what the ABI can say.
TEST(Manifest, TensorsThatTheAbiCannotDescribeAreNamed) {
    const Change changes[] = {
        {"'x' is of uint16", "float32", "uint16"},
        {"'x' has 9 axes", "[\"n\", 3], \"sample_shape\": [1, 3]",
         "[1,1,1,1,1,1,1,1,1], \"sample_shape\": [1,1,1,1,1,1,1,1,1]"},
        {"'x' is of any rank", "\"sample_shape\": [1, 3]", "\"sample_shape\": [1]"},
    };
    for (const Change& change : changes) {
        const auto [status, message] = refusalOf(sealed(replaced(kGood, change.part, change.by)));
        EXPECT_EQ(status, PAG_INCOMPATIBLE) << change.what;
        EXPECT_EQ(message, change.what + std::string(", which the C++ runtime does not take."));
    }
}

TEST(Manifest, MayBeLarge) {
    std::string many;
    for (int i = 0; i < 200'000; ++i) {
        many += "\"f" + std::to_string(i) + "\": \"\", ";
    }
    const std::string text = sealed(replaced(kGood, "\"files\": {", "\"files\": {" + many));
    EXPECT_EQ(parseManifest(text, "b/m.json").files.size(), 200'001u);
}

// Each is looked at once: a parser that went over the list at the end of each would take hours.
TEST(Manifest, AListOfManyObjectsIsRefusedSoon) {
    std::string many;
    for (int i = 0; i < 1'000'000; ++i) {
        many += "{},";
    }
    const std::string text = sealed(replaced(kGood, "\"ops\": [", "\"ops\": [" + many + "{}"));
    EXPECT_EQ(refusalOf(text).second, "b/m.json is not a manifest that pagdeploy wrote.");
}

TEST(Manifest, OtherTextsAreForeign) {
    for (const char* text : {"", "null", "[]", "{}", "3", "\"pagbundle\"", "{\"format\": \"pagbundle\"}",
                             "{\"format\": \"pagbundle\", \"format_version\": 3}"}) {
        EXPECT_EQ(refusalOf(text).second, "b/m.json is not a manifest that pagdeploy wrote.") << text;
    }
}

TEST(Manifest, NestingDoesNotExhaustTheStack) {
    const std::size_t depth = 2'000'000;
    EXPECT_EQ(refusalOf(std::string(depth, '[')).first, PAG_INCOMPATIBLE);
    EXPECT_EQ(refusalOf(std::string(depth, '[') + std::string(depth, ']')).first, PAG_INCOMPATIBLE);
    const std::string deep = std::string(depth, '[') + std::string(depth, ']');
    EXPECT_EQ(refusalOf(sealed(replaced(kGood, "[0.0, 1.0]", deep))).first, PAG_INCOMPATIBLE);
}

TEST(Manifest, TheDigestStandsThereOnce) {
    const std::string good = sealed(kGood);
    const std::string digest = good.substr(good.find("\"digest\": \"") + 11, 64);
    const std::string twice =
        replaced(good, "\"source_sha256\": \"s\"", "\"source_sha256\": \"" + digest + "\"");
    EXPECT_EQ(refusalOf(twice).second, "b/m.json is not a manifest that pagdeploy wrote.");
    EXPECT_EQ(refusalOf(replaced(good, digest, std::string(64, 'f'))).second,
              "b/m.json was changed after the build.");
}

}  // namespace
}  // namespace pagdeploy::runtime

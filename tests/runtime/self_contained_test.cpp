// Models that reach out of themselves, and bytes that are no models.
#include "backends/onnxruntime/self_contained.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "backends/border.hpp"

namespace pagdeploy::runtime {
namespace {

std::string varint(std::uint64_t value) {
    std::string text;
    for (; value > 127; value >>= 7) {
        text += static_cast<char>(value | 128);
    }
    return text + static_cast<char>(value);
}

// A field that has a length, and one that is a number.
std::string field(int number, const std::string& bytes) {
    return varint(static_cast<std::uint64_t>(number) << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string field(int number, std::uint64_t value) {
    return varint(static_cast<std::uint64_t>(number) << 3) + varint(value);
}

// As in onnx.proto. The data are said to lie in a file of that name.
std::string tensor(const std::string& location) {
    return field(1, 4u) + field(2, 1u) + field(8, std::string("weight")) +
           field(13, field(1, std::string("location")) + field(2, location)) + field(14, 1u);
}
std::string sparse(const std::string& tensor) { return field(1, field(2, 1u)) + field(2, tensor); }
std::string node(const std::string& attribute) {
    return field(1, std::string("x")) + field(4, std::string("Constant")) + field(5, attribute);
}
std::string model(const std::string& graph) { return field(1, 8u) + field(7, graph); }

// What is said of it, or nothing.
std::string refusal(const std::string& bytes) {
    try {
        requireSelfContained(bytes.data(), bytes.size());
        return "";
    } catch (const Refusal& refusal) {
        EXPECT_EQ(refusal.status, PAG_INCOMPATIBLE);
        return refusal.what();
    }
}

constexpr auto kOutside =
    "The bundle's engine keeps the weight 'weight' in another file, which no build does.";
constexpr auto kNoModel = "The bundle's engine is not an ONNX model, or it is truncated.";

TEST(SelfContained, TakesWeightsThatAreInside) {
    const std::string inside = field(1, 4u) + field(2, 1u) + field(8, std::string("weight")) +
                               field(9, std::string(16, '\xff')) + field(14, 0u);
    EXPECT_EQ(refusal(model(field(5, inside) + field(1, node(field(5, inside))))), "");
    EXPECT_EQ(refusal(model(field(5, inside)) + field(99, std::string("later")) + varint(98 << 3 | 1) +
                      std::string(8, '\xff') + varint(97 << 3 | 5) + std::string(4, '\xff')), "");
}

TEST(SelfContained, RefusesWeightsElsewhereWhereverTheyAre) {
    for (const char* location : {"weights.bin", "../../etc/passwd", "/etc/passwd", "",
                                 "*/_ORT_MEM_ADDR_/*"}) {
        const std::string weight = tensor(location);
        const std::string inner = field(5, weight);  // of a graph
        const std::string models[] = {
            model(inner),
            model(field(15, sparse(weight))),
            model(field(1, node(field(5, weight)))),
            model(field(1, node(field(10, weight)))),
            model(field(1, node(field(22, sparse(weight))))),
            model(field(1, node(field(23, sparse(weight))))),
            model(field(1, node(field(6, inner)))),
            model(field(1, node(field(11, field(1, node(field(6, inner))))))),
            model("") + field(25, field(7, node(field(5, weight)))),
            model("") + field(25, field(11, field(5, weight))),
            model("") + field(20, field(1, inner)),
            model("") + field(20, field(2, inner)),
            model("") + model(inner),  // protobuf merges what stands there twice
        };
        for (const std::string& bytes : models) {
            EXPECT_EQ(refusal(bytes), kOutside) << location << " in model " << &bytes - models;
        }
    }
}

TEST(SelfContained, RefusesOtherSpellings) {
    const std::string name = field(8, std::string("weight"));
    const auto with = [&](const std::string& where) { return model(field(5, name + where)); };
    EXPECT_EQ(refusal(with(std::string("\x70\x81\x80\x00", 4))), kOutside);  // 1, written longer
    EXPECT_EQ(refusal(with(std::string("\xf0\x00\x01", 3))), kOutside);      // a field written longer
    EXPECT_EQ(refusal(with(field(14, 2u))), kOutside);                       // a kind of a later ONNX
    EXPECT_EQ(refusal(with(field(14, 1u) + field(14, 0u))), kOutside);
    EXPECT_EQ(refusal(with(field(14, std::uint64_t{1} << 32))), "");         // which protobuf reads as 0
}

TEST(SelfContained, RefusesWhatIsNoModel) {
    EXPECT_EQ(refusal(""), kNoModel);
    const std::string whole = model(field(5, tensor("x")));
    for (std::size_t size = 1; size < whole.size(); ++size) {
        const std::string said = refusal(whole.substr(0, size));
        EXPECT_TRUE(size == 2 ? said.empty() : said == kNoModel) << size << said;  // 2: a version alone
    }
    EXPECT_EQ(refusal(field(7, std::string(1, '\x0b'))), kNoModel);          // a group
    EXPECT_EQ(refusal(std::string(11, '\xff')), kNoModel);                   // a number of no end
    EXPECT_EQ(refusal(std::string("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11)), kNoModel);
    EXPECT_EQ(refusal(std::string("\x00\x00", 2)), kNoModel);                // field 0
}

TEST(SelfContained, NestingDoesNotExhaustTheStack) {
    std::string graph;
    for (int depth = 0; depth < 10'000; ++depth) {
        graph = field(1, node(field(6, graph)));
    }
    EXPECT_EQ(refusal(model(graph)), kNoModel);
}

}  // namespace
}  // namespace pagdeploy::runtime

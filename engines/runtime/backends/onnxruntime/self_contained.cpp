#include "backends/onnxruntime/self_contained.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "backends/border.hpp"

namespace pagdeploy::runtime {

namespace {

enum class Kind { model, training, graph, node, attribute, function, sparseTensor, tensor };

struct Member {
    Kind owner;
    std::uint32_t field;
    Kind kind;
};

// Every way that leads from a model to a tensor (onnx.proto); other fields are passed over.
constexpr Member kMembers[] = {
    {Kind::model, 7, Kind::graph},           {Kind::model, 20, Kind::training},
    {Kind::model, 25, Kind::function},       {Kind::training, 1, Kind::graph},
    {Kind::training, 2, Kind::graph},        {Kind::graph, 1, Kind::node},
    {Kind::graph, 5, Kind::tensor},          {Kind::graph, 15, Kind::sparseTensor},
    {Kind::node, 5, Kind::attribute},        {Kind::function, 7, Kind::node},
    {Kind::function, 11, Kind::attribute},   {Kind::attribute, 5, Kind::tensor},
    {Kind::attribute, 6, Kind::graph},       {Kind::attribute, 10, Kind::tensor},
    {Kind::attribute, 11, Kind::graph},      {Kind::attribute, 22, Kind::sparseTensor},
    {Kind::attribute, 23, Kind::sparseTensor}, {Kind::sparseTensor, 1, Kind::tensor},
    {Kind::sparseTensor, 2, Kind::tensor},
};
constexpr std::uint32_t kTensorName = 8;
constexpr std::uint32_t kDataLocation = 14;
constexpr int kDeepest = 100;  // as protobuf's own limit

enum Wire : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

Refusal noModel() {
    return {PAG_INCOMPATIBLE, "The bundle's engine is not an ONNX model, or it is truncated.",
            "Copy the bundle again, or build it again."};
}

// The fields of one message, one after the other.
class Fields {
public:
    explicit Fields(std::string_view message) : rest_(message) {}

    bool next() {
        if (rest_.empty()) {
            return false;
        }
        const std::uint64_t tag = varint();
        if (tag > std::numeric_limits<std::uint32_t>::max() || tag >> 3 == 0) {
            throw noModel();
        }
        number = static_cast<std::uint32_t>(tag >> 3);
        wire = static_cast<std::uint32_t>(tag & 7);
        switch (wire) {
            case kVarint:
                value = varint();
                break;
            case kFixed64:
                take(8);
                break;
            case kBytes:
                bytes = take(varint());
                break;
            case kFixed32:
                take(4);
                break;
            default:  // a group, which no field of ONNX is
                throw noModel();
        }
        return true;
    }

    std::uint32_t number = 0;
    std::uint32_t wire = 0;
    std::uint64_t value = 0;  // of a varint
    std::string_view bytes;   // of what has a length

private:
    std::uint64_t varint() {
        std::uint64_t all = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            const auto byte = static_cast<unsigned char>(take(1).front());
            all |= shift < 64 ? std::uint64_t{byte & 0x7fu} << shift : 0;
            if ((byte & 0x80) == 0) {
                return all;
            }
        }
        throw noModel();
    }

    std::string_view take(std::uint64_t count) {
        if (count > rest_.size()) {
            throw noModel();
        }
        const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(count));
        rest_.remove_prefix(taken.size());
        return taken;
    }

    std::string_view rest_;
};

void checkTensor(std::string_view tensor) {
    std::string_view name;
    bool isOutside = false;
    for (Fields field(tensor); field.next();) {
        if (field.number == kTensorName && field.wire == kBytes) {
            name = field.bytes;
        } else if (field.number == kDataLocation && field.wire == kVarint) {
            // Of a message that is written in parts the last one counts; none of ours comes in parts.
            isOutside = isOutside || static_cast<std::uint32_t>(field.value) != 0;
        }
    }
    if (isOutside) {
        throw Refusal(PAG_INCOMPATIBLE,
                      "The bundle's engine keeps the weight '" + std::string(name) +
                          "' in another file, which no build does.",
                      "Do not use the bundle; build it again, or get it again from a source you trust.");
    }
}

void visit(Kind kind, std::string_view message, int depth) {
    if (kind == Kind::tensor) {
        return checkTensor(message);
    }
    if (depth == kDeepest) {
        throw noModel();
    }
    for (Fields field(message); field.next();) {
        if (field.wire != kBytes) {
            continue;
        }
        for (const Member& member : kMembers) {
            if (member.owner == kind && member.field == field.number) {
                visit(member.kind, field.bytes, depth + 1);
            }
        }
    }
}

}  // namespace

void requireSelfContained(const void* model, std::size_t bytes) {
    if (bytes == 0 || bytes > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
        throw noModel();  // protobuf counts in 32 bits
    }
    visit(Kind::model, {static_cast<const char*>(model), bytes}, 0);
}

}  // namespace pagdeploy::runtime

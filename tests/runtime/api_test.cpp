// The C ABI: what it says of a bundle, and what it answers to calls that are wrong.
#include <gtest/gtest.h>

#include <cstring>

#include "running.hpp"

namespace pagdeploy {
namespace {

pag_bundle* opened(const std::string& name) {
    pag_bundle* bundle = nullptr;
    EXPECT_EQ(pag_bundle_open(pathOf(name).c_str(), &bundle), PAG_OK) << pag_message();
    return bundle;
}

template <class T>
T sized() {
    T plain{};
    plain.struct_size = sizeof plain;
    return plain;
}

TEST(Api, SaysItsVersion) {
    EXPECT_EQ(pag_abi_version(), static_cast<std::uint32_t>(PAG_ABI_VERSION));
    EXPECT_STRNE(pag_version(), "");
}

TEST(Api, DescribesABundle) {
    const Bundle bundle = Bundle::open(pathOf("sizes")).value();
    EXPECT_EQ(bundle.engine(), "onnxruntime");
    EXPECT_NE(bundle.manifest().find("\"pagbundle\""), std::string::npos);
    const std::vector<TensorInfo> inputs = bundle.inputs();
    ASSERT_EQ(inputs.size(), 3u);
    EXPECT_EQ(inputs[0].name, "x");
    EXPECT_EQ(inputs[0].dtype, PAG_FLOAT32);
    EXPECT_EQ(inputs[0].shape, (Shape{-1, 4}));
    EXPECT_EQ(inputs[0].dimNames, (std::vector<std::string>{"n", ""}));
    EXPECT_EQ(inputs[0].sampleShape, (Shape{2, 4}));
    EXPECT_EQ(inputs[2].shape, Shape{});
    EXPECT_EQ(inputs[2].sampleRange[1], 2.0);
    ASSERT_EQ(bundle.outputs().size(), 2u);
    EXPECT_EQ(bundle.outputs()[1].dtype, PAG_INT64);
    EXPECT_TRUE(bundle.gates().empty());
    const std::vector<GateInfo> gates = Bundle::open(pathOf("gated-gather")).value().gates();
    ASSERT_EQ(gates.size(), 1u);
    EXPECT_EQ(gates[0].density.size(), 2u);
    EXPECT_NEAR(gates[0].density[0] + gates[0].density[1], 1.0, 1e-9);
}

TEST(Api, TakesNullEverywhere) {
    pag_bundle* bundle = nullptr;
    pag_engine* engine = nullptr;
    pag_context* context = nullptr;
    pag_tensor_info info = sized<pag_tensor_info>();
    pag_gate_info gate = sized<pag_gate_info>();
    pag_tensor tensor = sized<pag_tensor>();
    const std::int64_t shape[1] = {1};
    EXPECT_EQ(pag_bundle_open(nullptr, &bundle), PAG_USAGE);
    EXPECT_EQ(pag_bundle_open("x", nullptr), PAG_USAGE);
    EXPECT_EQ(pag_bundle_input(nullptr, 0, &info), PAG_USAGE);
    EXPECT_EQ(pag_bundle_output(nullptr, 0, &info), PAG_USAGE);
    EXPECT_EQ(pag_bundle_gate(nullptr, 0, &gate), PAG_USAGE);
    EXPECT_EQ(pag_engine_create(nullptr, nullptr, &engine), PAG_USAGE);
    EXPECT_EQ(pag_engine_create(nullptr, nullptr, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_context_create(nullptr, nullptr, &context), PAG_USAGE);
    EXPECT_EQ(pag_context_create(nullptr, nullptr, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_context_bind_input(nullptr, "x", shape, 8, PAG_INT64, shape, 1, PAG_HOST), PAG_USAGE);
    EXPECT_EQ(pag_context_bind_output(nullptr, "x", nullptr, 0, PAG_INT64, PAG_HOST), PAG_USAGE);
    EXPECT_EQ(pag_context_set_scalar(nullptr, "x", 0), PAG_USAGE);
    EXPECT_EQ(pag_context_run(nullptr, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_context_capture(nullptr, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_context_output(nullptr, "x", &tensor), PAG_USAGE);
    EXPECT_STRNE(pag_message(), "");
    EXPECT_STRNE(pag_remedy(), "");
    EXPECT_STREQ(pag_bundle_manifest(nullptr), "");
    EXPECT_STREQ(pag_bundle_engine(nullptr), "");
    EXPECT_STREQ(pag_engine_runtime(nullptr), "");
    EXPECT_EQ(pag_bundle_input_count(nullptr) + pag_bundle_output_count(nullptr) +
                  pag_bundle_gate_count(nullptr), 0u);
    pag_bundle_release(nullptr);
    pag_engine_release(nullptr);
    pag_context_release(nullptr);
    bundle = opened("sizes");
    EXPECT_EQ(pag_bundle_input(bundle, 0, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_bundle_output(bundle, 0, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_bundle_gate(bundle, 0, nullptr), PAG_USAGE);
    EXPECT_EQ(pag_engine_create(bundle, nullptr, nullptr), PAG_USAGE);
    pag_bundle_release(bundle);
}

TEST(Api, CountsFromZero) {
    pag_bundle* const bundle = opened("sizes");
    pag_tensor_info info = sized<pag_tensor_info>();
    EXPECT_EQ(pag_bundle_input(bundle, 2, &info), PAG_OK);
    EXPECT_EQ(pag_bundle_input(bundle, 3, &info), PAG_USAGE);
    EXPECT_EQ(pag_bundle_output(bundle, SIZE_MAX, &info), PAG_USAGE);
    EXPECT_STREQ(pag_message(),
                 "There are 2 outputs, and number 18446744073709551615 was asked for.");
    pag_bundle_release(bundle);
}

TEST(Api, WritesNoFurtherThanACallerKnows) {
    pag_bundle* const bundle = opened("sizes");
    pag_tensor_info info;
    std::memset(&info, 0x5a, sizeof info);
    info.struct_size = 0;
    EXPECT_EQ(pag_bundle_input(bundle, 0, &info), PAG_USAGE);
    info.struct_size = sizeof info - 1;  // inside of a field
    EXPECT_EQ(pag_bundle_input(bundle, 0, &info), PAG_USAGE);
    info.struct_size = offsetof(pag_tensor_info, shape);  // as if it ended there
    EXPECT_EQ(pag_bundle_input(bundle, 0, &info), PAG_OK);
    EXPECT_STREQ(info.name, "x");
    EXPECT_EQ(info.rank, 2);
    EXPECT_EQ(info.struct_size, offsetof(pag_tensor_info, shape));
    const auto* const beyond = reinterpret_cast<const unsigned char*>(&info.shape);
    for (std::size_t i = 0; i < sizeof info - offsetof(pag_tensor_info, shape); ++i) {
        ASSERT_EQ(beyond[i], 0x5a) << i;
    }
    struct {
        pag_tensor_info known;
        std::int64_t later;
    } newer{};
    newer.known.struct_size = sizeof newer;  // a program that is newer than the library
    newer.later = 7;
    EXPECT_EQ(pag_bundle_input(bundle, 0, &newer.known), PAG_OK);
    EXPECT_EQ(newer.known.struct_size, sizeof newer);
    EXPECT_EQ(newer.later, 7);
    pag_bundle_release(bundle);
}

TEST(Api, OptionsNeedTheirSize) {
    pag_bundle* const bundle = opened("sizes");
    pag_engine_options options{};
    pag_engine* engine = reinterpret_cast<pag_engine*>(&options);
    EXPECT_EQ(pag_engine_create(bundle, &options, &engine), PAG_USAGE);
    EXPECT_EQ(engine, nullptr);  // a failed call hands out nothing
    EXPECT_STREQ(pag_message(), "The struct_size of the options is not set.");
    options.struct_size = offsetof(pag_engine_options, backend_directory) + 4;  // half of a pointer
    EXPECT_EQ(pag_engine_create(bundle, &options, &engine), PAG_USAGE);
    EXPECT_STREQ(pag_message(), "The struct_size of the options is 12, which that of no version is.");
    pag_bundle_release(bundle);
}

TEST(Api, TakesWhateverBytesAPathHas) {
    pag_bundle* bundle = nullptr;
    const std::string beside = bundles().string() + "/";
    for (const std::string& path : {std::string(), std::string("."), std::string("\xff\xfe\n%s%n"),
                                    beside + "sizes.onnx", beside + "sizes.pagbundle/manifest.json",
                                    std::string("/dev/null"), std::string(100'000, '/')}) {
        EXPECT_EQ(pag_bundle_open(path.c_str(), &bundle), PAG_USAGE) << path.substr(0, 80);
        EXPECT_EQ(bundle, nullptr);
    }
    EXPECT_EQ(pag_bundle_open("\xff", &bundle), PAG_USAGE);
    EXPECT_STREQ(pag_message(), "\xff is not a bundle: it has no manifest.json.");
}

TEST(Api, MessagesBelongToAThread) {
    pag_bundle* bundle = nullptr;
    EXPECT_EQ(pag_bundle_open("/nowhere", &bundle), PAG_USAGE);
    EXPECT_EQ(bundle, nullptr);
    EXPECT_STREQ(pag_message(), "/nowhere is not a bundle: it has no manifest.json.");
    const std::string long_path(3000, 'x');
    EXPECT_EQ(pag_bundle_open(long_path.c_str(), &bundle), PAG_USAGE);
    EXPECT_EQ(std::strlen(pag_message()), 1023u);  // cut, not overrun
}

}  // namespace
}  // namespace pagdeploy

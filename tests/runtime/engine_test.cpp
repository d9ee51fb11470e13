// What has to be there before an engine runs, and who may bring code.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "running.hpp"

namespace pagdeploy {
namespace {

TEST(Engine, SaysWhatRunsIt) {
    EXPECT_EQ(load("sizes").runtime().rfind("onnxruntime 1.", 0), 0u);
}

TEST(Engine, LacksItsBackEnd) {
    EngineOptions options = withOnnxRuntime();
    options.backendDirectory = "/nowhere";
    const auto engine = Engine::create(Bundle::open(pathOf("sizes")).value(), options);
    EXPECT_EQ(engine.error().status, PAG_ENVIRONMENT);
    EXPECT_EQ(engine.error().message.rfind(
                  "There is no libpagdeploy_backend_onnxruntime.so in /nowhere, which an engine of "
                  "onnxruntime ", 0), 0u) << engine.error().message;
}

TEST(Engine, RefusesNumbersThatAreNone) {
    EngineOptions options = withOnnxRuntime();
    options.threads = -1;
    const auto engine = Engine::create(Bundle::open(pathOf("sizes")).value(), options);
    EXPECT_EQ(engine.error().status, PAG_USAGE);
    EXPECT_EQ(engine.error().message, "The options ask for -1 threads.");
}

// onnxruntime reads the variable once, when it starts: telemetry that began does not end.
TEST(Engine, KeepsOnnxRuntimeFromTellingItsMakers) {
    load("sizes");
    EXPECT_STREQ(getenv("ORT_DISABLE_TELEMETRY"), "1");
}

// The environment is asked before the bundle, whose library is code of whoever built it.
class OpLibrary : public testing::Test {
protected:
    void SetUp() override {
        if (!Bundle::open(pathOf("gated-native"))) {
            GTEST_SKIP() << "no op library was built, so there is no bundle with one";
        }
        unsetenv("PAGDEPLOY_ORT_OPS");
    }
};

TEST_F(OpLibrary, DoesNotRunUnasked) {
    const auto engine =
        Engine::create(Bundle::open(pathOf("gated-native")).value(), withOnnxRuntime());
    if (engine) {
        GTEST_SKIP() << "the op library lies beside the runtime";
    }
    EXPECT_EQ(engine.error().status, PAG_USAGE);
    EXPECT_EQ(engine.error().message,
              pathOf("gated-native") + " brings the library plugins/libpagdeploy_ort.so, whose code "
                                       "would run in this process.");
}

TEST_F(OpLibrary, IsWhatTheEnvironmentNames) {
    setenv("PAGDEPLOY_ORT_OPS", "/nowhere.so", 1);
    EngineOptions options = withOnnxRuntime();
    options.allowHostCode = true;
    const auto engine = Engine::create(Bundle::open(pathOf("gated-native")).value(), options);
    unsetenv("PAGDEPLOY_ORT_OPS");
    EXPECT_EQ(engine.error().status, PAG_ENVIRONMENT);
    EXPECT_EQ(engine.error().message, "PAGDEPLOY_ORT_OPS names /nowhere.so, which is no file.");
}

TEST_F(OpLibrary, RunsFromAPrivateCopy) {
    EngineOptions options = withOnnxRuntime();
    options.allowHostCode = true;
    for (int i = 0; i < 2; ++i) {
        const auto engine = Engine::create(Bundle::open(pathOf("gated-native")).value(), options);
        EXPECT_TRUE(engine) << engine.error().text();
    }
}

TEST_F(OpLibrary, ThatWasChangedAfterOpeningDoesNotRun) {
    const std::filesystem::path copy = bundles() / "changed.pagbundle";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(pathOf("gated-native"), copy, std::filesystem::copy_options::recursive);
    const Bundle bundle = Bundle::open(copy.string()).value();
    std::ofstream(copy / "plugins/libpagdeploy_ort.so", std::ios::app) << "x";
    EngineOptions options = withOnnxRuntime();
    options.allowHostCode = true;
    const auto engine = Engine::create(bundle, options);
    if (engine) {
        GTEST_SKIP() << "the op library lies beside the runtime";
    }
    EXPECT_EQ(engine.error().status, PAG_INCOMPATIBLE);
    EXPECT_EQ(engine.error().message, copy.string() + " was changed: 'plugins/libpagdeploy_ort.so' is "
                                                      "not the file that was built.");
    std::filesystem::remove_all(copy);
}

}  // namespace

// In a process of its own: the first engine of a process decides which onnxruntime it is.
TEST(RuntimeLibraryDeathTest, IsMissing) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    const auto tryIt = [] {
        EngineOptions options;
        options.runtimeLibrary = "/nowhere/libonnxruntime.so";
        const auto none = Engine::create(Bundle::open(pathOf("sizes")).value(), options);
        const bool isTold = none.error().status == PAG_ENVIRONMENT &&
                            none.error().message.find("/nowhere/libonnxruntime.so cannot be used (") == 0;
        std::exit(isTold && load("sizes").runtime() != "" ? 0 : 1);  // and the process lives on
    };
    EXPECT_EXIT(tryIt(), testing::ExitedWithCode(0), "");
}

}  // namespace pagdeploy

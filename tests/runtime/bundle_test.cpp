// A bundle's folder against its manifest.
#include "core/bundle.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/problem.hpp"
#include "sealed.hpp"

namespace fs = std::filesystem;

namespace pagdeploy::runtime {
namespace {

const Files kFiles = {{"engine.onnx", "an engine"}, {"model.onnx", "a model"},
                      {"sample/inputs.npz", "a sample"}, {"sample/outputs.npz", "its outputs"}};

class BundleTest : public testing::Test {
protected:
    void SetUp() override {
        for (const auto& [name, bytes] : kFiles) {
            folder_.write(name, bytes);
        }
        folder_.write("manifest.json", sealed(manifestOf(kFiles)));
    }

    std::string path() const { return folder_.path().string(); }

    // What opening says, or nothing.
    std::string refusal(pag_status expected = PAG_INCOMPATIBLE) const {
        try {
            Bundle bundle(folder_.path());
            return "";
        } catch (const Problem& problem) {
            EXPECT_EQ(problem.status(), expected);
            return problem.what();
        }
    }

    Folder folder_;
};

TEST_F(BundleTest, Opens) {
    const Bundle bundle(folder_.path());
    EXPECT_EQ(bundle.bytesOf("engine.onnx"), "an engine");
    EXPECT_THROW(bundle.bytesOf("manifest.json"), Problem);  // which it does not list
    EXPECT_THROW(bundle.file("../engine.onnx"), Problem);
}

TEST_F(BundleTest, IsNotThere) {
    fs::remove(folder_.path() / "manifest.json");
    EXPECT_EQ(refusal(PAG_USAGE), path() + " is not a bundle: it has no manifest.json.");
}

TEST_F(BundleTest, ManifestIsAFolder) {
    fs::remove(folder_.path() / "manifest.json");
    fs::create_directory(folder_.path() / "manifest.json");
    EXPECT_EQ(refusal(PAG_USAGE), path() + " is not a bundle: it has no manifest.json.");
}

TEST_F(BundleTest, LacksAFile) {
    fs::remove(folder_.path() / "sample/inputs.npz");
    EXPECT_EQ(refusal(), path() + " lacks its file 'sample/inputs.npz'.");
}

TEST_F(BundleTest, AFileWasChanged) {
    folder_.write("sample/inputs.npz", "a sampel");
    EXPECT_EQ(refusal(), path() + " was changed: 'sample/inputs.npz' is not the file that was built.");
}

TEST_F(BundleTest, HoldsAnUnlistedFile) {
    folder_.write("sample/more.npz", "");
    EXPECT_EQ(refusal(), path() + " holds the file 'sample/more.npz', which its manifest does not list.");
}

TEST_F(BundleTest, HoldsALinkToNowhere) {
    fs::create_symlink("gone", folder_.path() / "link");
    EXPECT_EQ(refusal(), path() + " holds the file 'link', which its manifest does not list.");
}

TEST_F(BundleTest, HiddenFilesAreNobodysBusiness) {
    folder_.write(".DS_Store", "x");
    folder_.write("sample/.directory", "x");
    EXPECT_EQ(refusal(), "");
}

TEST_F(BundleTest, AFileLiesOutside) {
    const Folder other;
    other.write("engine.onnx", "an engine");
    fs::remove(folder_.path() / "engine.onnx");
    fs::create_symlink(other.path() / "engine.onnx", folder_.path() / "engine.onnx");
    EXPECT_EQ(refusal(), path() + " names the file 'engine.onnx', which lies outside of it.");
}

TEST_F(BundleTest, TheManifestNamesAFileOutside) {
    folder_.write("manifest.json", sealed(manifestOf({{"../engine.onnx", "an engine"}})));
    EXPECT_EQ(refusal(), path() + " names the file '../engine.onnx', which lies outside of it.");
}

TEST_F(BundleTest, TheEngineIsNotListed) {
    folder_.write("manifest.json", sealed(replaced(manifestOf(kFiles), "\"file\": \"engine.onnx\"",
                                                   "\"file\": \"other.onnx\"")));
    EXPECT_EQ(refusal(), path() + " does not hold the file 'other.onnx'.");
}

TEST_F(BundleTest, ALibraryIsNotListed) {
    folder_.write("manifest.json", sealed(replaced(manifestOf(kFiles), "\"libraries\": []",
                                                   "\"libraries\": [\"/lib/evil.so\"]")));
    EXPECT_EQ(refusal(), path() + " does not hold the file '/lib/evil.so'.");
}

TEST_F(BundleTest, WhatRunsIsWhatWasChecked) {
    const Bundle bundle(folder_.path());
    folder_.write("engine.onnx", "another 1");  // of the same size
    EXPECT_THROW(bundle.bytesOf("engine.onnx"), Problem);
    fs::remove(folder_.path() / "engine.onnx");
    EXPECT_THROW(bundle.bytesOf("engine.onnx"), Problem);
}

TEST_F(BundleTest, CannotBeRead) {
    if (geteuid() == 0) {
        GTEST_SKIP() << "root reads everything";
    }
    fs::permissions(folder_.path() / "engine.onnx", fs::perms::none);
    EXPECT_NE(refusal(), "");
}

}  // namespace
}  // namespace pagdeploy::runtime

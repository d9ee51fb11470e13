// Names that nobody vouches for, and files that change under the reader.
#include "core/files.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/problem.hpp"
#include "sealed.hpp"

namespace fs = std::filesystem;

namespace pagdeploy::runtime {
namespace {

TEST(Inside, TakesWhatStaysInside) {
    const Folder folder;
    folder.write("sample/inputs.npz", "");
    for (const char* name : {"engine.onnx", "sample/inputs.npz", "./engine.onnx", "a..b", "..a", "a b"}) {
        EXPECT_EQ(inside(folder.path(), name), folder.path() / name) << name;
    }
}

TEST(Inside, RefusesWhatLeadsOut) {
    const Folder folder;
    folder.write("here/file", "");
    for (const std::string& name :
         {std::string(), std::string("/etc/passwd"), std::string("../x"), std::string("here/../../x"),
          std::string("here/.."), std::string("here\\..\\x"), std::string("C:x"),
          std::string("here/file\0.onnx", 15)}) {
        EXPECT_THROW(inside(folder.path(), name), Problem) << name;
    }
}

TEST(Inside, FollowsLinksBeforeItJudges) {
    const Folder folder;
    const Folder other;
    other.write("secret", "s");
    folder.write("file", "f");
    fs::create_symlink(other.path(), folder.path() / "out");
    fs::create_symlink(other.path() / "secret", folder.path() / "secret");
    fs::create_symlink("file", folder.path() / "alias");
    fs::create_symlink("loop", folder.path() / "loop");
    EXPECT_THROW(inside(folder.path(), "out/secret"), Problem);
    EXPECT_THROW(inside(folder.path(), "secret"), Problem);
    EXPECT_THROW(inside(folder.path(), "loop"), Problem);
    EXPECT_NO_THROW(inside(folder.path(), "alias"));
    // A folder whose name only begins alike is another one.
    const fs::path longer = folder.path().string() + "x";
    fs::create_directory(longer);
    fs::create_symlink(longer, folder.path() / "longer");
    EXPECT_THROW(inside(folder.path(), "longer"), Problem);
    fs::remove(longer);
}

TEST(Inside, TakesAFolderThatIsALink) {
    const Folder folder;
    const Folder other;
    fs::create_symlink(other.path(), folder.path() / "current");
    EXPECT_NO_THROW(inside(folder.path() / "current", "engine.onnx"));
}

TEST(ReadFile, ReadsAllBytes) {
    const Folder folder;
    const std::string bytes("a\0b\n\xff", 5);
    folder.write("file", bytes);
    EXPECT_EQ(readFile(folder.path() / "file", 5), bytes);
    EXPECT_EQ(sha256OfFile(folder.path() / "file"), sha256(bytes));
    folder.write("large", std::string(300000, 'x'));
    EXPECT_EQ(sha256OfFile(folder.path() / "large"), sha256(std::string(300000, 'x')));
}

TEST(ReadFile, RefusesWhatIsNoPlainFile) {
    const Folder folder;
    ASSERT_EQ(mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
    fs::create_symlink("gone", folder.path() / "dangling");
    for (const char* name : {"pipe", "dangling", "nothing", "."}) {  // a pipe must not block
        EXPECT_THROW(readFile(folder.path() / name, 100), Problem) << name;
        EXPECT_THROW(sha256OfFile(folder.path() / name), Problem) << name;
    }
    EXPECT_THROW(readFile("/dev/zero", 100), Problem);
}

TEST(ReadFile, RefusesWhatIsTooLarge) {
    const Folder folder;
    folder.write("file", "123456");
    EXPECT_THROW(readFile(folder.path() / "file", 5), Problem);
    fs::resize_file(folder.path() / "file", std::uintmax_t{1} << 40);  // sparse: no disk is used
    EXPECT_THROW(readFile(folder.path() / "file", 64u << 20), Problem);
}

TEST(PrivateCopy, HoldsTheBytesAndCannotBeChanged) {
    const std::string path = privateCopy("some code");
    EXPECT_EQ(readFile(path, 100), "some code");
    EXPECT_EQ(privateCopy("some code"), path);  // the loader knows libraries by their path
    EXPECT_NE(privateCopy("other code"), path);
    const int descriptor = std::stoi(path.substr(path.rfind('/') + 1));
    EXPECT_LT(write(descriptor, "x", 1), 0);
    EXPECT_LT(ftruncate(descriptor, 0), 0);
}

}  // namespace
}  // namespace pagdeploy::runtime

// A program of another project: an op's defaults, and where the plugin library is.
#include <common/op_attributes.hpp>

#include <cstdio>

int main() {
    const pagdeploy::PerforatedConvAttributes attributes;
    std::printf("branch %d\n", static_cast<int>(attributes.branch));
#ifdef PLUGIN_LIBRARY
    std::FILE* const library = std::fopen(PLUGIN_LIBRARY, "rb");
    std::printf("plugins %s\n", library == nullptr ? "missing" : "found");
    return library == nullptr ? 1 : 0;
#else
    return 0;
#endif
}

// A program of another project: an op's defaults, and where the native libraries are.
#include <common/op_attributes.hpp>

#include <cstdio>

#ifdef HAS_RUNTIME
#include <pagdeploy/pagdeploy.h>
#endif

namespace {

bool isThere(const char* name, const char* path) {
    std::FILE* const library = std::fopen(path, "rb");
    std::printf("%s %s\n", name, library == nullptr ? "missing" : "found");
    return library != nullptr && std::fclose(library) == 0;
}

}  // namespace

int main() {
    const pagdeploy::PerforatedConvAttributes attributes;
    std::printf("branch %d\n", static_cast<int>(attributes.branch));
    bool complete = true;
#ifdef PLUGIN_LIBRARY
    complete &= isThere("plugins", PLUGIN_LIBRARY);
#endif
#ifdef ORT_OPS_LIBRARY
    complete &= isThere("ort_ops", ORT_OPS_LIBRARY);
#endif
#ifdef HAS_RUNTIME
    pag_bundle* bundle = nullptr;
    complete &= pag_bundle_open("/nowhere", &bundle) == PAG_USAGE && pag_message()[0] != '\0';
    std::printf("runtime %s found\n", pag_version());
#endif
    (void)isThere;
    return complete ? 0 : 1;
}

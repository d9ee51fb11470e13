#include "core/shared_library.hpp"

#include <dlfcn.h>

#include "core/problem.hpp"

namespace pagdeploy::runtime {

void* symbolOf(const std::filesystem::path& library, const char* symbol) {
    // Its own version of a dependency comes before what the program happens to have loaded.
    void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void* const address = handle == nullptr ? nullptr : dlsym(handle, symbol);
    if (address == nullptr) {
        const char* const reason = dlerror();
        throw Problem(PAG_ENVIRONMENT,
                      "The library " + library.string() + " cannot be used (" +
                          (reason == nullptr ? "no reason given" : reason) + ").",
                      "Install it, or name its folder in pag_engine_options.backend_directory.");
    }
    dlclose(handle);  // which RTLD_NODELETE outlives
    return address;
}

std::filesystem::path folderOfThisLibrary() {
    Dl_info info{};
    const auto here = reinterpret_cast<void*>(&folderOfThisLibrary);
    if (dladdr(here, &info) == 0 || info.dli_fname == nullptr) {
        throw Problem(PAG_ENVIRONMENT, "The folder of the pagdeploy runtime is not known.",
                      "Name the back ends' folder in pag_engine_options.backend_directory.");
    }
    return std::filesystem::absolute(info.dli_fname).parent_path();
}

}  // namespace pagdeploy::runtime

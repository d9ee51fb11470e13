// A library for hosts that only dlopen plugin libraries, such as Triton's tensorrt backend: when it
// is opened, it has TensorRT's registry load the library beside it whose name is its own without
// "autoreg_". So a copy named autoreg_libmine.so registers libmine.so.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

#define PAG_TEXT_(value) #value
#define PAG_TEXT(value) PAG_TEXT_(value)

namespace {

using nvinfer1::IPluginRegistry;

std::string pathOfThis() {
    static const char inThisLibrary = 0;
    Dl_info self{};
    if (dladdr(&inThisLibrary, &self) == 0 || self.dli_fname == nullptr) {
        throw std::runtime_error("the linker does not say where this library lies");
    }
    return self.dli_fname;
}

std::string pathOfPlugins(std::string path) {
    constexpr std::string_view kWord = "autoreg_";
    const std::size_t name = path.rfind('/') + 1;  // 0 if there is no slash
    const std::size_t word = path.find(kWord, name);
    if (word == std::string::npos) {
        throw std::runtime_error(path + " has no \"autoreg_\" in its name");
    }
    return path.erase(word, kWord.size());
}

// TensorRT is asked for by its soname, because hosts load it privately; a TensorRT of another major
// version has another one, and its registry is of no use here.
IPluginRegistry* registry() {
    constexpr const char* kFull = "libnvinfer.so." PAG_TEXT(PAGDEPLOY_TENSORRT_MAJOR);
    constexpr const char* kLean = "libnvinfer_lean.so." PAG_TEXT(PAGDEPLOY_TENSORRT_MAJOR);
    void* tensorrt = nullptr;
    for (const char* name : {kFull, kLean}) {
        if (tensorrt == nullptr) {
            tensorrt = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
        }
    }
    if (tensorrt == nullptr) {  // preloaded: the host will load it later
        tensorrt = dlopen(kFull, RTLD_NOW | RTLD_LOCAL);
    }
    void* const get = tensorrt == nullptr ? nullptr : dlsym(tensorrt, "getPluginRegistry");
    if (get == nullptr) {
        throw std::runtime_error(std::string("there is no ") + kFull);
    }
    return reinterpret_cast<IPluginRegistry* (*)()>(get)();
}

__attribute__((constructor)) void registerPlugins() {
    try {
        const std::string plugins = pathOfPlugins(pathOfThis());
        if (registry()->loadLibrary(plugins.c_str()) == nullptr) {
            throw std::runtime_error("TensorRT refuses " + plugins);
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "pagdeploy: autoreg: %s\n", error.what());
    }
}

}  // namespace

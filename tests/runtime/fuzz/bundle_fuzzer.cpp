// libFuzzer's entry: the input is a bundle, as an attacker who seals it could make it.
//
// What stands before the first form feed is its manifest, the rest its engine. Random bytes never meet a
// digest, so the placeholders 64 x '0' and 64 x 'e' become those of the manifest and of the engine.
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "backends/border.hpp"
#include "backends/onnxruntime/self_contained.hpp"
#include "backends/tensorrt/plan_header.hpp"
#include "core/bundle.hpp"
#include "core/problem.hpp"
#include "core/sha256.hpp"
#include "pagdeploy/pagdeploy.h"

namespace fs = std::filesystem;
using namespace pagdeploy::runtime;

namespace {

fs::path makeFolder() {
    std::string name = (fs::exists("/dev/shm") ? "/dev/shm" : fs::temp_directory_path().string()) +
                       std::string("/pagdeploy-fuzz-XXXXXX");
    if (mkdtemp(name.data()) == nullptr) {
        std::abort();
    }
    // What every bundle holds beside its engine, and nobody here reads.
    fs::create_directory(name + "/sample");
    for (const char* file : {"/model.onnx", "/sample/inputs.npz", "/sample/outputs.npz"}) {
        std::ofstream(name + file);
    }
    return name;
}

void replace(std::string& text, const std::string& placeholder, const std::string& by) {
    for (std::size_t at = 0; (at = text.find(placeholder, at)) != std::string::npos; at += by.size()) {
        text.replace(at, placeholder.size(), by);
    }
}

void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

// Whatever a caller can ask of an open bundle.
void readAll(const pag_bundle* bundle) {
    std::string all = pag_bundle_manifest(bundle);
    all += pag_bundle_engine(bundle);
    const std::pair<std::size_t, pag_status (*)(const pag_bundle*, std::size_t, pag_tensor_info*)>
        sides[] = {{pag_bundle_input_count(bundle), pag_bundle_input},
                   {pag_bundle_output_count(bundle), pag_bundle_output}};
    for (const auto& [count, read] : sides) {
        for (std::size_t i = 0; i <= count; ++i) {
            pag_tensor_info info{};
            info.struct_size = sizeof info;
            if (read(bundle, i, &info) == PAG_OK) {
                all += info.name;
                for (int axis = 0; axis < info.rank; ++axis) {
                    all += info.dim_names[axis];
                }
            }
        }
    }
    for (std::size_t i = 0; i <= pag_bundle_gate_count(bundle); ++i) {
        pag_gate_info info{};
        info.struct_size = sizeof info;
        if (pag_bundle_gate(bundle, i, &info) == PAG_OK) {
            all += info.name;
            for (int branch = 0; branch < info.branches; ++branch) {
                all += std::to_string(info.density[branch]);
            }
        }
    }
    volatile std::size_t size = all.size();
    (void)size;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fs::path folder = makeFolder();
    const std::string input(reinterpret_cast<const char*>(data), size);
    const std::size_t border = input.find('\f');
    const std::string engine = border == std::string::npos ? "" : input.substr(border + 1);
    std::string manifest = input.substr(0, border);
    replace(manifest, std::string(64, 'e'), sha256(engine));
    const std::string unsealed(64, '0');
    if (const std::size_t at = manifest.find(unsealed); at != std::string::npos) {
        manifest.replace(at, unsealed.size(), sha256(manifest));
    }
    write(folder / "manifest.json", manifest);
    write(folder / "engine", engine);

    pag_bundle* bundle = nullptr;
    if (pag_bundle_open(folder.c_str(), &bundle) == PAG_OK) {
        readAll(bundle);
        pag_engine_options options{};
        options.struct_size = sizeof options;
        options.backend_directory = folder.c_str();  // where there is none
        pag_engine* loaded = nullptr;
        if (pag_engine_create(bundle, &options, &loaded) == PAG_OK || loaded != nullptr) {
            std::abort();
        }
    } else if (bundle != nullptr || *pag_message() == '\0' || *pag_remedy() == '\0') {
        std::abort();
    }
    pag_bundle_release(bundle);
    // What comes before a plan or a model is handed to its runtime.
    void (*const checks[])(const void*, std::size_t) = {
        requireSelfContained, [](const void* plan, std::size_t bytes) { readPlanHeader(plan, bytes); }};
    for (const auto check : checks) {
        try {
            check(engine.data(), engine.size());
        } catch (const Refusal&) {
        }
    }
    return 0;
}

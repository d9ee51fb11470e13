// The engine of a bundle in onnxruntime's own C++ API, without our runtime:
//
//     plain_onnxruntime BUNDLE/engine.onnx PHOTO.ppm FOLDER [OPS.so]
//
// OPS.so is libpagdeploy_ort.so, which the lowering `native` needs and no other does. Nothing checks
// that the file is the one that was built: that is what the runtime is for.
#include <onnxruntime_cxx_api.h>

#include <iostream>

#include "photo.hpp"

int main(int count, char** arguments) {
    if (count < 4) {
        std::cerr << "plain_onnxruntime BUNDLE/engine.onnx PHOTO.ppm FOLDER [OPS.so]\n";
        return 2;
    }
    try {
        Ort::Env environment(ORT_LOGGING_LEVEL_FATAL, "example");
        Ort::SessionOptions options;
        if (count > 4) {
            options.RegisterCustomOpsLibrary(arguments[4]);
        }
        Ort::Session session(environment, arguments[1], options);
        Photo photo = readPhoto(arguments[2]);

        const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
        Ort::AllocatorWithDefaultOptions allocator;
        const pagdeploy::Shape shape = photo.shape();
        const auto input = session.GetInputNameAllocated(0, allocator);
        const char* const inputs[] = {input.get()};
        const Ort::Value image = Ort::Value::CreateTensor<float>(
            memory, photo.pixels.data(), photo.pixels.size(), shape.data(), shape.size());
        std::vector<std::string> names;
        std::vector<const char*> outputs;
        for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
            names.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
        }
        for (const std::string& name : names) {
            outputs.push_back(name.c_str());
        }
        auto values = session.Run(Ort::RunOptions(), inputs, &image, 1, outputs.data(), outputs.size());

        for (std::size_t i = 0; i < names.size(); ++i) {
            const auto about = values[i].GetTensorTypeAndShapeInfo();
            if (about.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
                continue;  // the maps of this example are float32
            }
            writeArray(std::string(arguments[3]) + "/" + names[i] + ".npy",
                       {values[i].GetTensorMutableRawData(), 4 * about.GetElementCount(), PAG_FLOAT32,
                        PAG_HOST, about.GetShape()});
            std::cout << names[i] << "\n";
        }
    } catch (const std::exception& failure) {
        std::cerr << failure.what() << "\n";
        return 1;
    }
    return 0;
}

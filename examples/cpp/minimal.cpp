// One photo through a bundle: minimal BUNDLE PHOTO.ppm FOLDER [NAME=NUMBER...]
//
// Writes every output as FOLDER/NAME.npy, the same bytes that `pagdeploy run` writes. Further
// arguments are scalars, such as budget=0.5.
#include <cstdlib>
#include <iostream>

#include "photo.hpp"

using namespace pagdeploy;

int main(int count, char** arguments) {
    if (count < 4) {
        std::cerr << "minimal BUNDLE PHOTO.ppm FOLDER [NAME=NUMBER...]\n";
        return 2;
    }
    try {
        const Bundle bundle = Bundle::open(arguments[1]).value();
        const Engine engine = Engine::create(bundle, optionsOfEnvironment()).value();
        Context context = Context::create(engine).value();

        const Photo photo = readPhoto(arguments[2]);
        context.bindInput(bundle.inputs()[0].name, photo.pixels.data(), photo.shape()).value();
        for (int i = 4; i < count; ++i) {
            const std::string scalar = arguments[i];
            const std::size_t equals = scalar.find('=');
            context.setScalar(scalar.substr(0, equals), std::atof(scalar.c_str() + equals + 1)).value();
        }
        context.run().value();

        std::cout << engine.runtime() << "\n";
        for (const TensorInfo& output : bundle.outputs()) {
            const Tensor tensor = context.output(output.name).value();
            writeArray(std::string(arguments[3]) + "/" + output.name + ".npy", tensor);
            std::cout << output.name << ": " << tensor.bytes << " bytes\n";
        }
    } catch (const Exception& failure) {
        std::cerr << failure.what() << "\n";
        return failure.error().status;
    } catch (const std::exception& failure) {
        std::cerr << failure.what() << "\n";
        return 2;
    }
    return 0;
}

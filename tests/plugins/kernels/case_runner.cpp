// Runs one case that compare_with_numpy.py has written, and writes the output beside it.
//
//     kernels_case_runner CASE OUTPUT
//
// A case is a header of integers, named below in their order, then alpha as a float, then the
// arrays: everything in channels-last layout, 32-bit words first, elements in the case's type.
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "conv_case.hpp"

namespace pagdeploy::testing {
namespace {

struct CaseHeader {
    int type, variant;
    int images, height, width, inputs, outputHeight, outputWidth, outputs;
    int kernelHeight, kernelWidth, strideY, strideX, padTop, padLeft, dilationY, dilationX;
    int groups, branch, mode, activation, perImage, baseIsOneValue;
    float alpha;
};

template <typename Value>
std::vector<Value> readArray(std::istream& file, long long size) {
    std::vector<Value> values(at(size));
    file.read(reinterpret_cast<char*>(values.data()),
              std::streamsize(values.size() * sizeof(Value)));
    return values;
}

template <typename Element>
int run(const CaseHeader& h, std::istream& file, const char* target) {
    const Grid input{h.images, h.height, h.width};
    const Grid output{h.images, h.outputHeight, h.outputWidth};
    const ConvGeometry geometry{input,     output,    h.kernelHeight, h.kernelWidth, h.strideY,
                                h.strideX, h.groups,  h.inputs,       h.outputs};
    ConvCase<Element> conv;
    conv.problem = channelsLastProblem(ElementTraits<Element>::kType, geometry,
                                       {h.dilationY, h.dilationX, h.padTop, h.padLeft}, h.branch);
    conv.problem.mode = h.mode;
    conv.problem.activation = h.activation;
    conv.problem.alpha = h.alpha;
    conv.problem.selectionPerImage = h.perImage != 0;
    conv.problem.baseIsOneValue = h.baseIsOneValue != 0;
    conv.selection = readArray<int>(file, h.perImage != 0 ? h.images : output.pixels());
    conv.input = readArray<Element>(file, (long long)input.pixels() * h.inputs);
    conv.weights = {readArray<Element>(
        file, (long long)h.outputs * geometry.taps() * geometry.inputsPerGroup())};
    conv.bias = {readArray<Element>(file, h.outputs)};
    conv.base = readArray<Element>(
        file, h.baseIsOneValue != 0 ? 1 : (long long)output.pixels() * h.outputs);
    if (!file) {
        std::fprintf(stderr, "the case is too short\n");
        return 2;
    }
    PerforatedConvPlan plan{};
    const bool chosen = h.variant != 0;  // 0: as planned, 1: the direct kernel
    const cudaError_t planned = chosen ? planPerforatedConv(conv.problem, kDirectVariant, &plan)
                                       : planPerforatedConv(conv.problem, &plan);
    std::vector<Element> result = poisonedOutput(conv);
    if (planned != cudaSuccess || runKernels(conv, plan, &result) != cudaSuccess) {
        std::fprintf(stderr, "the launcher refused the case\n");
        return 2;
    }
    std::ofstream out(target, std::ios::binary);
    out.write(reinterpret_cast<const char*>(result.data()),
              std::streamsize(result.size() * sizeof(Element)));
    std::printf("%s\n", perforatedConvVariantName(plan.variant));
    return out ? 0 : 2;
}

}  // namespace
}  // namespace pagdeploy::testing

int main(int count, char** arguments) {
    using namespace pagdeploy;
    using namespace pagdeploy::testing;
    if (count != 3) {
        std::fprintf(stderr, "usage: kernels_case_runner CASE OUTPUT\n");
        return 2;
    }
    std::ifstream file(arguments[1], std::ios::binary);
    CaseHeader header{};
    file.read(reinterpret_cast<char*>(&header), sizeof header);
    switch (DataType(header.type)) {
        case DataType::kFloat32:
            return run<float>(header, file, arguments[2]);
        case DataType::kFloat16:
            return run<Half>(header, file, arguments[2]);
        case DataType::kBFloat16:
            return run<BFloat16>(header, file, arguments[2]);
    }
    return 2;
}

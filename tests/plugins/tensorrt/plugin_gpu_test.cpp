// The built library's enqueue() on a GPU, without TensorRT: plugin_gpu_test LIBRARY.
//
// Ends with 77, which ctest shows as skipped, where there is no device.
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include "v3_calls.hpp"

namespace pagdeploy::testing {
namespace {

void* library = nullptr;

// A copy of host memory on the device.
class DeviceCopy {
public:
    DeviceCopy(const void* from, std::size_t bytes) : bytes_(bytes) {
        EXPECT_EQ(cudaMalloc(&memory_, std::max<std::size_t>(bytes, 1)), cudaSuccess);
        set(from);
    }
    DeviceCopy(const DeviceCopy&) = delete;
    DeviceCopy& operator=(const DeviceCopy&) = delete;
    ~DeviceCopy() { cudaFree(memory_); }

    void set(const void* from) {
        EXPECT_EQ(cudaMemcpy(memory_, from, bytes_, cudaMemcpyHostToDevice), cudaSuccess);
    }
    void poison() { EXPECT_EQ(cudaMemset(memory_, 0xFF, bytes_), cudaSuccess); }
    void* data() const { return memory_; }
    std::size_t bytes() const { return bytes_; }

private:
    void* memory_ = nullptr;
    std::size_t bytes_;
};

// An example, its context of the built plugin, and all of its memory on the device.
template <typename Element>
struct GpuCase {
    ConvExample<Element> example{2, 64, 72};
    std::unique_ptr<IPluginV3> context;
    cudaStream_t stream = nullptr;
    std::vector<std::unique_ptr<DeviceCopy>> memory;  // X, selection, W, B, base, Y, workspace

    GpuCase() {
        using List = nvinfer1::IPluginCreatorInterface* const*;
        using GetCreators = List (*)(std::int32_t&);
        std::int32_t count = 0;
        const List list = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"))(count);
        auto* const creator = static_cast<IPluginCreatorV3One*>(list[1]);
        const PluginFieldCollection fields = example.collection();
        std::unique_ptr<IPluginV3> plugin(
            creator->createPlugin("conv", &fields, TensorRTPhase::kRUNTIME));
        context.reset(runtimeOf(plugin.get())->attachToContext(nullptr));
        const auto dynamic = dynamicDescs(example);
        const std::size_t workspace =
            buildOf(context.get())->getWorkspaceSize(dynamic.data(), 5, dynamic.data() + 5, 1);
        const auto pixels = [](const std::vector<int>& sizes) {
            return static_cast<std::size_t>(sizes[0]) * sizes[2] * sizes[3];
        };
        const std::size_t bytes[] = {
            sizeof(Element) * pixels(example.shapes[0]) * example.inputPitch,
            sizeof(std::int32_t) * pixels(example.shapes[1]),
            sizeof(Element) * example.outputs * 9 * example.inputPitch,
            sizeof(Element) * example.outputs,
            sizeof(Element) * pixels(example.shapes[4]) * example.outputPitch,
            sizeof(Element) * pixels(example.shapes[5]) * example.outputPitch};
        const void* const host[] = {example.x.data(),    example.selection.data(),
                                    example.weights.data(), example.bias.data(),
                                    example.base.data(), example.y.data()};
        for (int i = 0; i < 6; ++i) {
            memory.push_back(std::make_unique<DeviceCopy>(host[i], bytes[i]));
        }
        const Buffer poison(workspace);
        memory.push_back(std::make_unique<DeviceCopy>(poison.data(), workspace));
        EXPECT_EQ(cudaStreamCreate(&stream), cudaSuccess);
    }
    ~GpuCase() { cudaStreamDestroy(stream); }

    // The arguments are on this stack only: nothing may read them after the return.
    std::int32_t enqueue() {
        auto descs = exactDescs(example);
        const void* inputs[5];
        for (int i = 0; i < 5; ++i) {
            inputs[i] = memory[i]->data();
        }
        void* outputs[] = {memory[5]->data()};
        const std::int32_t status =
            runtimeOf(context.get())->enqueue(descs.data(), descs.data() + 5, inputs, outputs,
                                              memory[6]->data(), stream);
        std::memset(static_cast<void*>(descs.data()), 0xFF, descs.size() * sizeof descs[0]);
        std::memset(inputs, 0xFF, sizeof inputs);
        outputs[0] = nullptr;
        return status;
    }

    void poison() {
        memory[5]->poison();
        memory[6]->poison();
    }

    // Copied by the same stream, right behind what was enqueued.
    int wrongValues() {
        cudaMemcpyAsync(example.y.data(), memory[5]->data(), memory[5]->bytes(),
                        cudaMemcpyDeviceToHost, stream);
        EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
        return example.wrongValues();
    }
};

template <typename Element>
class GpuTest : public ::testing::Test {};

using Elements = ::testing::Types<float, Half>;
TYPED_TEST_SUITE(GpuTest, Elements);

TYPED_TEST(GpuTest, ComputesTheConvolutionAgainAndAgain) {
    GpuCase<TypeParam> gpu;
    for (int run = 0; run < 3; ++run) {
        gpu.poison();
        ASSERT_EQ(gpu.enqueue(), 0);
        EXPECT_EQ(gpu.wrongValues(), 0);
    }
}

TYPED_TEST(GpuTest, CallsBackToBackShareAWorkspace) {
    GpuCase<TypeParam> gpu;
    gpu.poison();
    ASSERT_EQ(gpu.enqueue(), 0);
    ASSERT_EQ(gpu.enqueue(), 0);
    EXPECT_EQ(gpu.wrongValues(), 0);
}

TYPED_TEST(GpuTest, ReplaysOfAGraphFollowTheSelection) {
    GpuCase<TypeParam> gpu;
    ASSERT_EQ(gpu.enqueue(), 0);  // the first call may load modules
    ASSERT_EQ(cudaStreamSynchronize(gpu.stream), cudaSuccess);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    ASSERT_EQ(gpu.enqueue(), 0);
    ASSERT_EQ(cudaStreamEndCapture(gpu.stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (const int share : {2, 1, 1000000, 3}) {  // one pixel in so many is active
        auto* const selection = gpu.example.selection.template as<std::int32_t>();
        const int pixels =
            gpu.example.images * gpu.example.kOutHeight * gpu.example.kOutWidth;
        for (int i = 0; i < pixels; ++i) {
            selection[i] = i % share == share - 1 ? gpu.example.branch : 0;
        }
        gpu.memory[1]->set(selection);
        gpu.poison();
        ASSERT_EQ(cudaGraphLaunch(executable, gpu.stream), cudaSuccess);
        EXPECT_EQ(gpu.wrongValues(), 0) << "one in " << share;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
}

}  // namespace
}  // namespace pagdeploy::testing

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
        return 2;
    }
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("skipped: no CUDA device\n");
        return 77;
    }
    pagdeploy::testing::library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (pagdeploy::testing::library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    return RUN_ALL_TESTS();
}

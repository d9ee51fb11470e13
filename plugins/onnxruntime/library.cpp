// The library's one exported function, which onnxruntime calls for every session that takes it.
#include "onnxruntime/conv.hpp"
#include "onnxruntime/layout.hpp"
#include "onnxruntime/pixel_lists.hpp"
#include "onnxruntime/quantized_conv.hpp"

namespace {

using namespace pagdeploy::ort;

template <typename Kernel>
void add(OrtCustomOpDomain* domain) {
    static const CustomOp<Kernel> op;  // static, because sessions keep pointers to it
    check(api->CustomOpDomain_Add(domain, &op));
}

template <typename... Kernels>
OrtCustomOpDomain* makeDomain(const char* name) {
    OrtCustomOpDomain* domain = nullptr;
    check(api->CreateCustomOpDomain(name, &domain));
    (add<Kernels>(domain), ...);
    return domain;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* const found = base->GetApi(kApiVersion);
    if (found == nullptr) {
        const std::string sentence =
            "pagdeploy's ops need onnxruntime 1.18 or later, and this is " +
            std::string(base->GetVersionString());
        return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, sentence.c_str());
    }
    // Everything static here is made once, whichever thread loads the first session.
    static const OrtApi* const first = api = found;
    (void)first;
    return guarded("pagdeploy", [&] {
        // The portable ops, and those that only the compiler's lowering writes.
        static OrtCustomOpDomain* const portable =
            makeDomain<GateKernel, ConvKernel>("pagdeploy");
        static OrtCustomOpDomain* const lowered =
            makeDomain<ActivePixelsKernel, SupportPixelsKernel, ConvNhwcKernel, ConvPairNhwcKernel,
                       ToChannelsLastKernel, ToChannelsFirstKernel, ChannelMeansNhwcKernel,
                       QLinearConvKernel, QLinearConvFloatKernel>("pagdeploy.cpu");
        check(api->AddCustomOpDomain(options, portable));
        check(api->AddCustomOpDomain(options, lowered));
    });
}

// Runs a variant on a random PerforatedConv and expects the op's definition within its bound.
#pragma once

#include <gtest/gtest.h>

#include "conv_maker.hpp"
#include "perforated_conv/variants.hpp"

namespace pagdeploy::testing {

template <typename Element>
double boundFor(const PerforatedConvProblem& problem) {
    switch (ElementTraits<Element>::kType) {
        case DataType::kFloat32:
            return problem.allowTf32 ? 2e-3 : 1e-5;
        case DataType::kFloat16:
            return 1e-3;
        case DataType::kBFloat16:
            return 8e-3;
    }
    return 0.0;
}

template <typename Element>
void expectRight(const ConvSpec& spec, int variant) {
    SCOPED_TRACE(std::string(spec.name) + ", " + perforatedConvVariantName(variant) +
                 ", schedule " + std::to_string(int(emulator::options.schedule)));
    const ConvCase<Element> conv = makeConv<Element>(spec, 11);
    ASSERT_EQ(faultOf(conv.problem), nullptr);
    PerforatedConvPlan plan{};
    ASSERT_EQ(planPerforatedConv(conv.problem, variant, &plan), cudaSuccess);
    std::vector<Element> output = poisonedOutput(conv);
    ASSERT_EQ(runKernels(conv, plan, &output), cudaSuccess);
    const Comparison result = compare(conv, output, boundFor<Element>(conv.problem));
    EXPECT_EQ(result.firstBad, "") << "error " << result.error;
}

inline void expectRightInItsType(ConvSpec spec, int variant) {
    switch (kVariants[variant].type) {
        case DataType::kFloat32:
            spec.allowTf32 = kVariants[variant].family == VariantFamily::tensor;
            return expectRight<float>(spec, variant);
        case DataType::kFloat16:
            return expectRight<Half>(spec, variant);
        case DataType::kBFloat16:
            return expectRight<BFloat16>(spec, variant);
    }
}

inline int variantNamed(const std::string& name) {
    for (int i = 0; i < perforatedConvVariants(); ++i) {
        if (name == perforatedConvVariantName(i)) {
            return i;
        }
    }
    ADD_FAILURE() << "no variant is called " << name;
    return kDirectVariant;
}

}  // namespace pagdeploy::testing

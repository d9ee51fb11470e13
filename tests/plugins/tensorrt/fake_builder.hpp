// An expression builder that computes while it builds, for shape rules without a TensorRT library.
//
// A symbol has a value that the test knows and the plugin must not ask for: it says that it is not
// constant, and asking for its value throws, which ends a noexcept plugin for all to see.
#pragma once

#include <NvInferRuntime.h>

#include <deque>
#include <stdexcept>

namespace pagdeploy::testing {

using Size = decltype(std::declval<nvinfer1::IDimensionExpr>().getConstantValue());

class FakeExpression final : public nvinfer1::IDimensionExpr,
                             private nvinfer1::apiv::VDimensionExpr {
public:
    FakeExpression(Size value, bool constant) : value_(value), constant_(constant) {
        nvinfer1::IDimensionExpr::mImpl = this;
    }
    FakeExpression(const FakeExpression&) = delete;
    FakeExpression& operator=(const FakeExpression&) = delete;

    Size value() const { return value_; }
    bool constant() const { return constant_; }

private:
    bool isConstant() const override { return constant_; }
    Size getConstantValue() const override {
        if (!constant_) {
            throw std::logic_error("the plugin asked for the value of a symbol");
        }
        return value_;
    }
#if NV_TENSORRT_MAJOR >= 10
    bool isSizeTensor() const override { return false; }
#endif

    Size value_;
    bool constant_;
};

inline const FakeExpression& fake(const nvinfer1::IDimensionExpr* expression) {
    return *static_cast<const FakeExpression*>(expression);
}

class FakeBuilder final : public nvinfer1::IExprBuilder, private nvinfer1::apiv::VExprBuilder {
public:
    FakeBuilder() { nvinfer1::IExprBuilder::mImpl = this; }
    FakeBuilder(const FakeBuilder&) = delete;
    FakeBuilder& operator=(const FakeBuilder&) = delete;
    ~FakeBuilder() noexcept override = default;

    const nvinfer1::IDimensionExpr* symbol(Size value) { return add(value, false); }
    const nvinfer1::IDimensionExpr* known(Size value) { return add(value, true); }

private:
    const nvinfer1::IDimensionExpr* add(Size value, bool constant) {
        return &expressions_.emplace_back(value, constant);
    }

    const nvinfer1::IDimensionExpr* constant(Size value) override { return add(value, true); }

    const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation operation,
                                              const nvinfer1::IDimensionExpr& first,
                                              const nvinfer1::IDimensionExpr& second) override {
        const bool constant = fake(&first).constant() && fake(&second).constant();
        return add(compute(operation, fake(&first).value(), fake(&second).value()), constant);
    }

#if NV_TENSORRT_MAJOR >= 10
    const nvinfer1::IDimensionExpr* declareSizeTensor(
        std::int32_t, const nvinfer1::IDimensionExpr&,
        const nvinfer1::IDimensionExpr& upper) override {
        return add(fake(&upper).value(), false);
    }
#endif

    static Size compute(nvinfer1::DimensionOperation operation, Size a, Size b) {
        using nvinfer1::DimensionOperation;
        const Size floor = b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
        switch (operation) {
            case DimensionOperation::kSUM:
                return a + b;
            case DimensionOperation::kSUB:
                return a - b;
            case DimensionOperation::kPROD:
                return a * b;
            case DimensionOperation::kFLOOR_DIV:
                return floor;
            case DimensionOperation::kCEIL_DIV:
                return floor + (a % b != 0 ? 1 : 0);
            case DimensionOperation::kMAX:
                return a > b ? a : b;
            case DimensionOperation::kMIN:
                return a < b ? a : b;
            case DimensionOperation::kEQUAL:
                return a == b;
            case DimensionOperation::kLESS:
                return a < b;
        }
        throw std::logic_error("unknown operation");
    }

    std::deque<FakeExpression> expressions_;  // addresses stay valid
};

}  // namespace pagdeploy::testing

// The plan of one execution context: made when shapes change, reused by every launch after that.
#pragma once

#include <algorithm>
#include <array>

#include "common/tensor.hpp"

namespace pagdeploy {

template <typename Op>
class Planned {
public:
    static constexpr int kTensors = Op::kInputs + 1;
    using Tensors = std::array<Tensor, kTensors>;

    // Plans unless the tensors are those of the last call. The plan is null if the output has no
    // elements: there is nothing to launch.
    const typename Op::Plan* planFor(const typename Op::Attributes& attributes,
                                     const Tensors& tensors) {
        if (!valid_ || !same(tensors)) {
            valid_ = false;
            Op::checkTensors(attributes, tensors.data());
            empty_ = isEmpty(tensors.back().shape);
            if (!empty_) {
                plan_ = Op::plan(attributes, tensors.data());
            }
            tensors_ = tensors;
            valid_ = true;
        }
        return empty_ ? nullptr : &plan_;
    }

private:
    bool same(const Tensors& tensors) const {
        const auto alike = [](const Tensor& a, const Tensor& b) {
            return a.type == b.type && a.layout == b.layout && a.shape.rank == b.shape.rank &&
                   std::equal(a.shape.d, a.shape.d + a.shape.rank, b.shape.d);
        };
        return std::equal(tensors.begin(), tensors.end(), tensors_.begin(), alike);
    }

    static bool isEmpty(const TensorShape& shape) {
        return std::any_of(shape.d, shape.d + shape.rank, [](auto size) { return size == 0; });
    }

    typename Op::Plan plan_{};
    Tensors tensors_{};
    bool empty_ = false;
    bool valid_ = false;
};

}  // namespace pagdeploy

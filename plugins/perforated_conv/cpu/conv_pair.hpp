// Two convolutions at the same pixels, the second one pointwise: a depthwise-separable
// convolution, or the last two of a bottleneck.
//
// What lies between them is no map: each tile of rows goes through both while it is in the cache.
// Where rows are few and weights are many, tiles would read the weights too often; then the whole
// list goes through the first one, side by side, and then through the second.
#pragma once

#include <memory>

#include "perforated_conv/cpu/convolution.hpp"

namespace pagdeploy::cpu {

class ConvPair {
public:
    // `second` is pointwise, and its inputs are the outputs of `first`.
    ConvPair(std::shared_ptr<const Convolution> first, std::shared_ptr<const Convolution> second)
        : first_(std::move(first)), second_(std::move(second)) {}

    // `call` is the second's, except that `input` and `x` are the first's, whose rows are bent by
    // `inner`. Not compact.
    void run(const ConvCall& call, const Bend& inner, Host& host) const;

private:
    // Rows of a tile that goes through both, or 0 to take one after the other.
    int tileRows(std::size_t rows) const;

    std::shared_ptr<const Convolution> first_;
    std::shared_ptr<const Convolution> second_;
};

}  // namespace pagdeploy::cpu

// What output pixels show that are not computed.
#pragma once

#include "perforated_conv/cpu/convolution.hpp"

namespace pagdeploy::cpu {

// Writes the pixels that are not listed, as the call's `inactive` says, and no others: its tasks
// may run beside those that compute. In place of a base that stays as it is, there are none.
class InactiveFill {
public:
    InactiveFill(const ConvCall& call, std::size_t outputs, int channels);

    std::size_t tasks() const { return tasks_; }
    void run(std::size_t task) const;

private:
    void fill(std::size_t firstPixel, std::size_t endPixel) const;

    const ConvCall& call_;
    std::size_t outputs_;
    std::size_t channels_;
    bool bends_;
    float constant_ = 0.0f;  // what one base value shows
    std::size_t pixelsPerTask_;
    std::size_t tasks_ = 0;
};

}  // namespace pagdeploy::cpu

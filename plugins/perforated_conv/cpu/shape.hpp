// The shape of one convolution, and what of it is fixed when a model is loaded.
#pragma once

#include "common/op_attributes.hpp"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy::cpu {

// Geometry without the sizes of the maps.
struct KernelShape {
    int height;
    int width;
    int strideY;
    int strideX;
    int groups;
    int inputChannels;
    int outputChannels;
    BranchGeometry reach;
    int padBottom;
    int padRight;

    int taps() const { return height * width; }

    ConvGeometry over(const Grid& input) const {
        const Grid output{
            input.images,
            outputSize(input.height, height, strideY, reach.dilationY, reach.padTop + padBottom),
            outputSize(input.width, width, strideX, reach.dilationX, reach.padLeft + padRight)};
        return {input, output, height, width, strideY, strideX, groups, inputChannels,
                outputChannels};
    }
};

inline KernelShape kernelShapeOf(const PerforatedConvAttributes& a, int inputChannels,
                                 int outputChannels) {
    return {a.kernel_shape[0], a.kernel_shape[1], a.strides[0], a.strides[1], a.group,
            inputChannels, outputChannels,
            {a.dilations[0], a.dilations[1], a.pads[0], a.pads[1]}, a.pads[2], a.pads[3]};
}

}  // namespace pagdeploy::cpu

"""Comparing numbers: a scale-free error, held to a bound that belongs to the precision."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np
import numpy.typing as npt

# Largest scale-free error of a whole network, by precision. Float32: another order of summation in
# some fifty layers gives about 1e-6, and ten times that where an output divides by a small number,
# as unit normals do; the half formats: their rounding, grown through the same layers. Measured on
# the trained example: fp16 8e-3, bf16 4e-2, int8 3e-1, all of them at pixels whose normal is nearly
# zero before it is divided by its length; without normals 3e-3, 2e-2 and 1e-1.
NETWORK_BOUNDS = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1, "int8": 5e-1}

# Of an output: the maximum has to leave room for the few pixels whose normal nearly vanishes before
# it is divided by its length, where any rounding turns it. Measured on the trained example with 4
# photographs: at most fp16 2.1e-2 and bf16 2.4e-1 there; elsewhere 7e-3 and 3e-2.
OUTPUT_BOUNDS = {**NETWORK_BOUNDS, "fp16": 1e-1, "bf16": 5e-1}

# So outputs are held in the root mean square, too, or a whole layer could be wrong. Measured: at
# most fp16 2.4e-3, bf16 2.0e-2, int8 9e-2 and usually 2e-2; with one layer at twice its scale 1e-1
# to 8e-1.
OUTPUT_RMS_BOUNDS = dict.fromkeys(NETWORK_BOUNDS, inf) | {"fp16": 1e-2, "bf16": 5e-2, "int8": 2e-1}

# Of the logits, as a share of what tells branches apart; nothing divides them by a small number.
# Measured in networks of 9 and 16 gates: fp16 3e-3, bf16 2e-2, int8 1.1e-1.
LOGIT_BOUNDS = {**NETWORK_BOUNDS, "int8": 2e-1}

# Of a lowering held to the portable model in the same precision: what differs is a rounding that
# falls the other way, in int8 a step of 1/127 in one of many terms.
LOWERING_BOUNDS = {**NETWORK_BOUNDS, "int8": 2e-2}

# Likewise; measured in onnxruntime: none at all, and 4e-2 or more with one layer of the trained
# example at twice its scale, or two branches swapped.
LOWERING_RMS_BOUNDS = dict.fromkeys(NETWORK_BOUNDS, inf) | {"int8": 5e-3}

# Distance between neighbouring numbers at 1.
EPSILON = {"fp32": 2.0**-23, "tf32": 2.0**-10, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8": 2.0**-6}


@dataclass(frozen=True)
class Comparison:
    """One output of the engine held to the reference's.

    Attributes:
        name: Of the output.
        error: max |engine - reference| / max |reference|; infinite if a NaN or an infinity
            stands where the reference has none.
        bound: What the error may be.
        rms: The same of root mean squares instead of maxima.
        rms_bound: What that may be.
        worst: Coordinate of the largest difference.
        engine_value: There.
        reference_value: There.
    """

    name: str
    error: float
    bound: float
    rms: float
    rms_bound: float
    worst: tuple[int, ...]
    engine_value: float
    reference_value: float

    @property
    def passed(self) -> bool:
        """Whether both errors are within their bounds."""
        return self.error <= self.bound and self.rms <= self.rms_bound

    def describe(self, when: str = "") -> str:
        """What differs more than it may, for a sentence that starts with the output's name."""
        if self.error > self.bound:
            return (
                f"differs by {self.error:.3g} of its scale{when} (the bound is {self.bound:.3g}),"
                f" most at {self.worst}"
            )
        return (
            f"differs by {self.rms:.3g} of its root mean square{when} (the bound is"
            f" {self.rms_bound:.3g})"
        )


def compare(
    name: str,
    engine: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    bound: float,
    rms_bound: float = inf,
) -> Comparison:
    """Compare one output; equal NaNs and infinities count as equal, other dtypes never do.

    Args:
        name: Of the output.
        engine: Any shape and numeric dtype.
        reference: Of the same shape.
        bound: Largest error that passes.
        rms_bound: Largest error of the root mean square that passes.
    """
    if engine.shape != reference.shape or engine.dtype != reference.dtype:
        return Comparison(name, inf, bound, inf, rms_bound, (), nan, nan)
    if engine.size == 0:
        return Comparison(name, 0.0, bound, 0.0, rms_bound, (), 0.0, 0.0)
    a, b = engine.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, np.abs(a - b))
    difference = np.where(np.isnan(a) & np.isnan(b), 0.0, difference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    finite = np.abs(b[np.isfinite(b)])
    scale = float(finite.max()) if finite.size else 0.0
    if scale:
        error = float(difference.max()) / scale
        rms = _root_mean_square(difference / scale) / _root_mean_square(finite / scale)
    else:
        error = rms = inf if difference.any() else 0.0
    worst = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), difference.shape))
    values = float(a[worst]), float(b[worst])
    return Comparison(name, error, bound, rms, rms_bound, worst, *values)


def _root_mean_square(array: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(array))))

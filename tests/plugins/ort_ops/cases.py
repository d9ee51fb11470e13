"""Random PerforatedConvs of every kind, with NaN and Inf wherever nothing may be read."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pagdeploy.ops import PERFORATED_CONV
from pagdeploy.ops.perforated_conv_reference import output_size


@dataclasses.dataclass(frozen=True)
class Case:
    """One node's inputs and attributes."""

    x: np.ndarray
    selection: np.ndarray
    w: np.ndarray
    b: np.ndarray
    base: np.ndarray
    attributes: dict[str, Any]

    def reference(self) -> np.ndarray:
        """The op table's answer."""
        return PERFORATED_CONV.reference(
            self.x, self.selection, self.w, self.b, self.base, **self.attributes
        )


@st.composite
def cases(draw: st.DrawFn, *, per_image: bool = True) -> Case:
    """Shapes, attributes and densities; what is at inactive pixels must not be seen."""
    groups, per_group = draw(st.sampled_from([(1, 1), (1, 5), (1, 16), (2, 8), (4, 3), (24, 1)]))
    multiplier = draw(st.integers(1, 40 if groups == 1 else 2))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (1, 5)]))
    dilations = draw(st.sampled_from([(1, 1), (2, 1), (4, 4)]))
    strides = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = [draw(st.integers(0, r + 1)) for r in (*reach, *reach)]
    least = [max(1, r + 1 - pads[a] - pads[a + 2]) for a, r in enumerate(reach)]
    size = [draw(st.integers(smallest, smallest + 12)) for smallest in least]
    images = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    m, c = groups * multiplier, groups * per_group
    out = output_size(size, kernel, strides, pads, dilations)
    branch, branches = draw(st.sampled_from([(1, 2), (0, 2), (3, 5)]))
    decided = (1, 1) if per_image and draw(st.booleans()) else out
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    selection = np.where(
        rng.random((images, 1, *decided)) < density, branch, (branch + 1) % branches
    ).astype(np.int32)
    mode, activation = draw(st.integers(0, 1)), draw(st.integers(0, 3))
    one_value = draw(st.booleans())
    base = rng.standard_normal((1, 1, 1, 1) if one_value else (images, m, *out), np.float32)
    active = np.broadcast_to(selection == branch, (images, 1, *out))
    if mode == 0 and not one_value:
        base = np.where(active, np.float32(np.nan), base)
    x = rng.standard_normal((images, c, *size), np.float32)
    if not active.any():
        x[:] = np.inf
    return Case(
        x,
        selection,
        rng.standard_normal((m, per_group, *kernel), np.float32),
        rng.standard_normal(m, np.float32),
        base,
        {
            "kernel_shape": list(kernel), "strides": list(strides), "pads": pads,
            "dilations": list(dilations), "group": groups, "branch": branch, "mode": mode,
            "activation": activation, "alpha": 0.25,
        },
    )  # fmt: skip


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Within the op's bound for float32, which is a share of the largest value."""
    assert found.shape == expected.shape
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 1.0
    bound = PERFORATED_CONV.bounds["float32"] * max(scale, 1e-30)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound, equal_nan=True)

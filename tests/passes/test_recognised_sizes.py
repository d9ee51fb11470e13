"""Masks of fixed sizes, of one image, and of fewer axes than the map that they rule."""

from __future__ import annotations

import pytest

from tests.passes.recognition import (
    HEADER,
    SAME,
    assert_same,
    model_of,
    ops_of,
    perforated,
    recognised,
)

CONV = f"c = Conv {SAME} (x, w, b)"
MASK = "t = GreaterOrEqual (g, zero) m = Cast <to = 1> (t)"
FIXED = HEADER.replace("n, ", "2, ").replace("h, w", "10, 8")
OF_FIXED_SIZE = {
    "where(g > 0, ones, zeros)": "t = Greater (g, zero) m = Where (t, ones_map, zeros_map)",
    "g > zeros": "t = Greater (g, zeros_map) m = Cast <to = 1> (t)",
    "ones * m": f"{MASK.replace('m =', 'k =')} m = Mul (ones_map, k)",
    "zeros or m": "t = Greater (g, zero) o = Or (nowhere, t) m = Cast <to = 1> (o)",
    "halting from ones": f"{MASK} a = Mul (ones_map, m) i = ArgMax <axis = 1> (l)"
    " j = Cast <to = 1> (i) r = Mul (a, j) q = Sub (ones_map, r)",
    "heaviside of maps": "l0 = Less (g, zeros_map) a = Where (l0, zeros_map, ones_map)"
    " e = Equal (g, zeros_map) m = Where (e, ones_map, a)",
    "argmax of a view": "v = Reshape (l, stacked_scores) i = ArgMax <axis = 1, keepdims = 0> (v)"
    " m = Cast <to = 1> (i)",
}


@pytest.mark.parametrize("form", OF_FIXED_SIZE)
def test_full_map_of_one_number_is_that_number(form):
    body = OF_FIXED_SIZE[form]
    mask = "q" if "q = " in body else "m"
    before = model_of(f"{body} {CONV} y = Mul (c, {mask})", FIXED)
    after = recognised(before)
    assert ops_of(after)["PAGGate"] >= 1
    assert len(perforated(after)) == 1
    for seed in range(3):
        assert_same(before, after, seed)


def test_constant_that_repeats_a_mask_makes_no_mask_of_it():
    """Of one image's decisions a map of ones for two makes a mask, which only broadcasts."""
    header = FIXED.replace("float[2, 1, 10, 8] g", "float[1, 1, 10, 8] g")
    before = model_of(
        f"t = Greater (g, zero) m = Where (t, ones_map, zeros_map) {CONV} y = Mul (c, m)", header
    )
    after = recognised(before)
    assert perforated(after) == []
    assert_same(before, after)


ONE_IMAGE = {
    "(1, H, W)": "t = Greater (g, zero) f = Cast <to = 1> (t) m = Squeeze (f, a0)",
    "(H, W)": "t = Greater (g, zero) f = Cast <to = 1> (t) m = Squeeze (f, both)",
    "(1, H, W), compared": "q = Squeeze (g, a1) t = Greater (q, zero) m = Cast <to = 1> (t)",
    "put back": "t = Greater (g, zero) s = Squeeze (t, both) u = Unsqueeze (s, both)"
    " m = Cast <to = 1> (u)",
}


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("form", ONE_IMAGE)
def test_mask_without_an_axis_of_images(form, images):
    """Of one image it is a mask; of three maps and three channels it would broadcast."""
    header = FIXED.replace("[2, ", f"[{images}, ").replace("10, 8", "6, 6")
    if images > 1 and "compared" not in form:
        header = header.replace(f"[{images}, 1, 6, 6] g", "[1, 1, 6, 6] g")
    before = model_of(f"{ONE_IMAGE[form]} {CONV} y = Mul (c, m)", header)
    after = recognised(before)
    assert len(perforated(after)) == (images == 1)
    for seed in range(2):
        assert_same(before, after, seed)


def test_one_image_that_is_reshaped_to_ones():
    """SkipNet's `h.view(h.size(0), 1, 1, 1)` in a file for one image."""
    header = FIXED.replace("[2, ", "[1, ")
    before = model_of(
        "p = ReduceMean <axes = [2, 3], keepdims = 0> (g) s = Sigmoid (p) t = Greater (s, half)"
        f" f = Cast <to = 1> (t) m = Reshape (f, one_image) {CONV} y = Mul (c, m)",
        header,
    )
    after = recognised(before)
    assert (ops_of(after)["PAGGate"], len(perforated(after))) == (1, 1)
    for seed in range(3):
        assert_same(before, after, seed)


EINSUM = "q0 = Squeeze (g, a1) t0 = Greater (q0, zero) kk = Cast <to = 1> (t0)"
PRODUCTS = {
    "nchw,nhw->nchw": "(c, kk)",
    "n hw, nchw -> nchw": "(kk, c)",
}
NO_PRODUCTS = {
    "nchw,nhw->nhwc": "(c, kk)",
    "nchw,nhw->nc": "(c, kk)",
}


@pytest.mark.parametrize("equation", [*PRODUCTS, *NO_PRODUCTS])
def test_einsum_that_sums_nothing(equation):
    operands = {**PRODUCTS, **NO_PRODUCTS}[equation]
    shape = {"nhwc": "n, h, w, 3", "nc": "n, 3"}.get(equation.partition("->")[2], "n, 3, h, w")
    header = HEADER.replace("float[n, 3, h, w] y", f"float[{shape}] y")
    before = model_of(f'{CONV} {EINSUM} y = Einsum <equation = "{equation}"> {operands}', header)
    after = recognised(before)
    assert len(perforated(after)) == ops_of(before)["Einsum"] - ops_of(after)["Einsum"]
    assert len(perforated(after)) == (equation in PRODUCTS)
    for seed in range(2):
        assert_same(before, after, seed)

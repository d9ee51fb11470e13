"""A precision that cannot be right is refused before anything is built."""

from __future__ import annotations

import pytest

from pagdeploy.errors import UsageError
from pagdeploy.precision import PRECISIONS, Precision

RANGES = {"x": (-1.0, 1.0)}


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_says_what_it_computes_in(name):
    precision = Precision(name, ranges=RANGES)
    dtypes = {"fp16": "float16", "bf16": "bfloat16"}
    assert precision.dtype == dtypes.get(name, "float32")
    assert precision.is_half == (name in dtypes)
    assert precision.allows_tf32 == (name == "tf32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fp8",), r"no precision 'fp8'\. Choose one of: fp32, tf32, fp16, bf16, int8\."),
        (("fp16", ("stem", "head(")), r"'head\(' is not a regular expression \(missing \), "),
        (("fp16", ("a{99999999999}",)), "is not a regular expression .the repetition number"),
        (("fp16", (10_000 * "(",)), "has 10000 characters"),
        (("int8",), r"int8 needs the ranges .* Give typical inputs with --calibration-data\."),
        (("int8", (), {}), "int8 needs the ranges"),
        (("fp32", ("stem",)), r"With the precision fp32 every node is float32 already\."),
        (("tf32", ("stem",)), "With the precision tf32"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Precision(*arguments)

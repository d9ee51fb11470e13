"""A malformed op declaration is refused where it is written."""

from __future__ import annotations

import dataclasses

import pytest

from pagdeploy.ops import OPS, PAG_GATE, PERFORATED_CONV, Attribute, Port


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("two words", "int", 1, ""), "is not an identifier"),
        (("mode", "string", None, ""), "no kind of attribute"),
        (("mode", "int", 1.0, ""), r"the default 1\.0 is not of 'int'"),
        (("mode", "int", True, ""), "the default True is not of 'int'"),
        (("pads", "ints", [0, 0], ""), "is not of 'ints'"),
        (("alpha", "float", 0.0, "", {0: "none"}), "only the values of an int have names"),
        (("mode", "int", 2, "", {0: "replace", 1: "add"}), "the default 2 has no name"),
    ],
)
def test_attribute_is_validated(arguments, text):
    with pytest.raises(ValueError, match=text):
        Attribute(*arguments)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inputs": (Port("X", "T", ""), Port("X", "T", ""))}, "a name occurs twice"),
        ({"outputs": (Port("Y", "U", ""),)}, "Y has the unknown type 'U'"),
        ({"bounds": {"float32": 1e-5}}, "bounds are needed for exactly"),
        ({"name": "PAG-Gate"}, "is not an identifier"),
    ],
)
def test_op_is_validated(change, text):
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(PAG_GATE, **change)


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        OPS["Other"] = PAG_GATE
    with pytest.raises(TypeError):
        PERFORATED_CONV.bounds["float32"] = 1.0
    with pytest.raises(KeyError, match="PAGGate has no attribute 'axis'"):
        PAG_GATE.attribute("axis")

"""A built plan is held to the model: its plugins, its interface, the types between its layers."""

from __future__ import annotations

import pytest

from pagdeploy.engines.base import TensorInfo
from pagdeploy.engines.nvidia.inspection import require_as_asked
from pagdeploy.errors import BuildFailed
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from tests.conftest import gated_model

PRECISION = Precision("fp16")
MODEL = lower(gated_model(), "plugin", precision=PRECISION)
INTERFACE = [TensorInfo("image", "float32", (1, 3, 8, 8)), TensorInfo("y", "float32", (1, 4, 8, 8))]
PLUGINS = [
    {"Name": node.name, "LayerType": "PluginV3"}
    for node in MODEL.graph.node
    if node.domain == "pagdeploy"
]


def conv(kind: str) -> dict:
    """The layer whose output is the logits of the first gate, which must be float32."""
    output = {
        "Name": "l1",
        "Location": "Device",
        "Format/Datatype": f"Row major {kind} form",
    }
    return {"Name": "node l1", "LayerType": "CaskConvolution", "Outputs": [output]}


def check(layers: list, interface: list = INTERFACE) -> None:
    require_as_asked(layers, interface, MODEL.SerializeToString())


def test_what_was_asked_for_passes():
    check([*PLUGINS, conv("FP32")])
    check([*PLUGINS, conv("Float"), {"Name": "a layer whose outputs it does not tell"}])
    check([{**layer, "Name": f"{layer['Name']} + reformat"} for layer in PLUGINS])


def test_a_missing_plugin_is_named():
    with pytest.raises(BuildFailed, match="no plugin layer for the node 'node s1'; it has 3 of 4"):
        check([layer for layer in PLUGINS if layer["Name"] != "node s1"])


def test_somebody_elses_plugin_is_not_taken_for_ours():
    other = [{"Name": "theirs", "LayerType": "PluginV3"} for _ in PLUGINS]
    with pytest.raises(BuildFailed, match="no plugin layer for the node"):
        check(other)


@pytest.mark.parametrize("kind", ["FP16", "Half", "BF16"])
def test_another_type_between_layers_is_refused(kind):
    with pytest.raises(
        BuildFailed, match=r"The engine holds 'l1' in \w+, and the model says FLOAT"
    ):
        check([*PLUGINS, conv(kind)])


def test_silent_float32_is_refused():
    half = next(v.name for v in MODEL.graph.value_info if v.type.tensor_type.elem_type == 10)
    layer = conv("FP32")
    layer["Outputs"][0]["Name"] = half
    with pytest.raises(BuildFailed, match="in FLOAT, and the model says FLOAT16"):
        check([*PLUGINS, layer])


def test_another_interface_is_refused():
    with pytest.raises(BuildFailed, match="holds 'image' in float16, and the model says float32"):
        check(PLUGINS, [TensorInfo("image", "float16", (1, 3, 8, 8))])

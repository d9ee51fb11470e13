"""Models whose weights lie in other files: refused before onnxruntime opens any."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pagdeploy.bundle import open_bundle, seal
from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.graph.read import read_model
from tests.runtime.conftest import INCOMPATIBLE, OK, ask_cpp


def place(model: onnx.ModelProto, weight: onnx.TensorProto, where: str) -> None:
    """Put a tensor somewhere into a model."""
    constant = helper.make_node("Constant", [], ["k"], value=weight)
    graph = helper.make_graph([constant], "branch", [], [])
    if where == "initializer":
        model.graph.initializer.append(weight)
    elif where == "constant":
        model.graph.node.append(constant)
    elif where == "sparse initializer":
        pair = onnx.SparseTensorProto(values=weight, indices=weight, dims=[4])
        model.graph.sparse_initializer.append(pair)
    elif where == "branch":
        branches = {"then_branch": graph, "else_branch": graph}
        model.graph.node.append(helper.make_node("If", ["c"], ["k"], **branches))
    elif where == "initializer of a branch":
        inner = helper.make_graph([], "branch", [], [], [weight])
        model.graph.node.append(helper.make_node("Loop", ["c"], ["k"], body=inner))
    else:
        function = helper.make_function("f", "F", [], ["k"], [constant], [], [])
        if where == "default of a function":
            function = helper.make_function("f", "F", [], ["k"], [], [], [])
            function.attribute_proto.append(helper.make_attribute("value", weight))
        model.functions.append(function)


PLACES = (
    "initializer",
    "constant",
    "sparse initializer",
    "branch",
    "initializer of a branch",
    "function",
    "default of a function",
)
LOCATIONS = {
    "a file that is not there": "weights.bin",
    "a file that is listed": "sample/inputs.npz",
    "a file above": "../../etc/passwd",
    "an absolute file": "/etc/passwd",
    "a link": "link",
    "an address of this process": "*/_ORT_MEM_ADDR_/*",
}


def test_weights_elsewhere_never_reach_onnxruntime(
    _bundles: dict[str, Path], runtime: Path, tmp_path: Path
) -> None:
    """Our builds write models of one file; one that names another is refused by both."""
    if not (runtime.parent / "libpagdeploy_backend_onnxruntime.so").is_file():
        pytest.skip("the runtime's back end for onnxruntime is not built")
    sound = _bundles["dense"]
    bundles = [sound]
    for where in PLACES:
        for number, location in enumerate(LOCATIONS.values()):
            made = tmp_path / f"{where}-{number}.pagbundle"
            shutil.copytree(sound, made)
            weight = numpy_helper.from_array(np.zeros(4, np.float32), "w")
            weight.ClearField("raw_data")
            weight.data_location = onnx.TensorProto.EXTERNAL
            weight.external_data.add(key="location", value=location)
            model = onnx.load_from_string((made / "engine.onnx").read_bytes())
            place(model, weight, where)
            (made / "engine.onnx").write_bytes(model.SerializeToString())
            if location == "link":
                (made / "link").symlink_to("sample/inputs.npz")
            seal(made, open_bundle(sound).manifest)
            open_bundle(made)  # which has no fault but that
            with pytest.raises(IncompatibleArtifact, match="keeps the weight 'w' in another file"):
                read_model(made / "engine.onnx")
            bundles.append(made)
    message = "The bundle's engine keeps the weight 'w' in another file, which no build does."
    verdicts = ask_cpp(runtime, *bundles, loads=True)
    assert verdicts[0] == (OK, "")
    assert verdicts[1:] == [(INCOMPATIBLE, message)] * (len(PLACES) * len(LOCATIONS))

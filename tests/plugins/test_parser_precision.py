"""NVIDIA's own ONNX parser reads our precisions as they are written, layer by layer.

The parser is the one of the TensorRT-RTX wheels: it parses without a GPU, and types strongly, as
TensorRT 11 does and TensorRT 10 is asked to.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from pagdeploy.verbs.calibrate import calibrate
from tests.conftest import gated_model
from tests.plugins.conftest import Child, wheels

pytestmark = pytest.mark.trt

PROGRAM = """
import json, sys
import tensorrt_rtx_bindings as trt

logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
assert parser.parse(open(sys.argv[1], "rb").read()), parser.get_error(0).desc()
layers = [network.get_layer(i) for i in range(network.num_layers)]
print(json.dumps({
    "layers": [[layer.type.name, layer.get_input(0).dtype.name] for layer in layers
               if layer.num_inputs],
    "outputs": [network.get_output(i).dtype.name for i in range(network.num_outputs)],
}))
"""


@pytest.mark.parametrize(
    ("precision", "name"),
    [("fp32", "FLOAT"), ("fp16", "HALF"), ("bf16", "BF16"), ("int8", "FLOAT")],
)
def test_layers_have_the_types_of_the_graph(
    precision: str, name: str, child: Child, tmp_path: Path
) -> None:
    folder = wheels("rtx")
    image = np.random.default_rng(0).random((2, 3, 9, 11)).astype(np.float32)
    seen = calibrate(gated_model(), {"image": image})
    ranges = {value: each.interval for value, each in seen.items()}
    asked = Precision(precision, ranges=ranges)
    path = tmp_path / "m.onnx"
    path.write_bytes(lower(gated_model(), "dense", precision=asked).SerializeToString())
    told = json.loads(child(folder, PROGRAM, str(path)).splitlines()[-1])
    kinds = [dtype for kind, dtype in told["layers"] if kind == "CONVOLUTION"]
    # The heads of both gates decide in float32; the stem and two perforated convolutions do not.
    assert sorted(kinds) == sorted(["FLOAT", "FLOAT", name, name, name])
    assert [dtype for kind, dtype in told["layers"] if kind == "TOPK"] == ["FLOAT", "FLOAT"]
    assert told["outputs"] == ["FLOAT"]
    quantized = {dtype for kind, dtype in told["layers"] if kind == "DEQUANTIZE"}
    assert quantized == ({"INT8"} if precision == "int8" else set())

"""Build the bundles that the tests of the C++ runtime open: make_bundles.py FOLDER

FOLDER/sizes.pagbundle          named sizes, a scalar, and an output whose size only the run tells
FOLDER/gated-LOWERING.pagbundle a gate and a convolution that it rules, in every lowering there is
FOLDER/onnxruntime.txt          the path of onnxruntime's shared library
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import pagdeploy
from pagdeploy.engines.ort_native import op_library
from pagdeploy.ops import DOMAIN, OPS, VERSION
from pagdeploy.ops.derive import function_body


def onnxruntime_library() -> Path:
    """The shared library of the installed package, which a C++ program can open.

    Raises:
        FileNotFoundError: the package brings none.
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = folder / f"libonnxruntime.so.{onnxruntime.__version__}"
    if not library.is_file():
        raise FileNotFoundError(f"onnxruntime {onnxruntime.__version__} brings no shared library")
    return library


def sizes_model() -> onnx.ModelProto:
    """sum = (x + y) * scale (n, 4), and where it is not zero (2, k)."""
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "y"], ["both"], name="add"),
            helper.make_node("Mul", ["both", "scale"], ["sum"], name="scale_all"),
            helper.make_node("NonZero", ["sum"], ["where"], name="find"),
        ],
        "sizes",
        [
            values("x", TensorProto.FLOAT, ["n", 4]),
            values("y", TensorProto.FLOAT, ["n", 4]),
            values("scale", TensorProto.FLOAT, []),
        ],
        [values("sum", TensorProto.FLOAT, ["n", 4]), values("where", TensorProto.INT64, [2, "k"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def gated_model() -> onnx.ModelProto:
    """A gate by a 1x1 convolution, and a 3x3 convolution that runs where it says so."""
    rng = np.random.default_rng(7)
    weights = {
        "head": rng.normal(size=(2, 8, 1, 1)).astype(np.float32),
        "W": rng.normal(size=(8, 8, 3, 3)).astype(np.float32),
        "B": rng.normal(size=8).astype(np.float32),
    }

    def attributes(op: str, **given: object) -> dict[str, object]:
        table = {a.name: a.default for a in OPS[op].attributes if a.default is not None}
        return {**table, **given}

    conv = attributes("PerforatedConv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "head"], ["gate.logits"], name="head"),
            helper.make_node(
                "PAGGate", ["gate.logits"], ["gate.selection"], name="gate", domain=DOMAIN,
                **attributes("PAGGate"),
            ),
            helper.make_node(
                "PerforatedConv", ["image", "gate.selection", "W", "B", "image"], ["out"],
                name="conv", domain=DOMAIN, **conv,
            ),
        ],
        "gated",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8, "h", "w"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(
        graph,
        functions=[function_body(OPS[name], 17) for name in ("PAGGate", "PerforatedConv")],
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)],
        ir_version=8,
    )


def build_all(folder: Path) -> list[Path]:
    """Build them all; returns their paths."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(sizes_model(), folder / "sizes.onnx")
    onnx.save(gated_model(), folder / "gated.onnx")
    request = {
        "x": np.ones((2, 4), np.float32),
        "y": np.ones((2, 4), np.float32),
        "scale": np.float32(2),
    }
    image = {"image": rng.normal(size=(1, 8, 12, 16)).astype(np.float32)}
    built = [folder / "sizes.pagbundle"]
    pagdeploy.build(folder / "sizes.onnx", built[0], engine="onnxruntime", inputs=request)
    for lowering in ("gather", "dense", "native") if op_library() else ("gather", "dense"):
        built.append(folder / f"gated-{lowering}.pagbundle")
        pagdeploy.build(
            folder / "gated.onnx",
            built[-1],
            engine="onnxruntime",
            lowering=lowering,
            inputs=image,
        )
    return built


def main() -> None:
    """Build them into the folder on the command line."""
    folder = Path(sys.argv[1])
    for path in build_all(folder):
        print(path)
    (folder / "onnxruntime.txt").write_text(str(onnxruntime_library()), encoding="utf-8")


if __name__ == "__main__":
    main()

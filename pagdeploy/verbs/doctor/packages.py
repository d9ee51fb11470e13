"""Python and its packages, and what onnxruntime takes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib import metadata, util
from typing import TYPE_CHECKING

from pagdeploy.errors import PagdeployError
from pagdeploy.verbs.doctor.finding import Finding

if TYPE_CHECKING:
    from pagdeploy.engines.ort import OnnxRuntimeEngine

_OUR_OPSET, _OUR_IR = 17, 8  # what models are written in unless asked otherwise

_REQUIRED = ("numpy", "onnx", "onnx-ir", "platformdirs", "pyelftools")
_OPTIONAL = (
    ("onnxscript", "export", "exporting"),
    ("torch", "export", "exporting and training"),
    ("safetensors", "export", "reading .safetensors checkpoints"),
    ("matplotlib", "report", "pictures in reports"),
    ("tensorrt", "tensorrt", "TensorRT engines"),
)


def findings() -> Iterator[Finding]:
    """What Python brings."""
    yield _python()
    yield from (_required(name) for name in _REQUIRED)
    yield _ceilings()
    yield from _onnxruntime()
    yield from (_optional(*package) for package in _OPTIONAL)


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok", found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required(name: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, "problem", "not installed", f"pip install {name}")
    return Finding(name, "ok", version)


def _optional(name: str, extra: str, purpose: str) -> Finding:
    version = _version(name)
    if version is None:
        advice = f"For {purpose}: pip install 'pagdeploy[{extra}]'"
        return Finding(name, "absent", "not installed", advice)
    if util.find_spec(name) is None:
        return Finding(name, "problem", f"{version}, but it cannot be found", "Install it again.")
    return Finding(name, "ok", version)


def _ceilings() -> Finding:
    import onnx

    return Finding(
        "onnx ceilings", "ok", f"opset {onnx.defs.onnx_opset_version()}, IR {onnx.IR_VERSION}"
    )


def _onnxruntime_ceilings(engine: OnnxRuntimeEngine) -> Finding:
    """The newest opset and IR that it loads; it has no function that tells them."""
    opset = _highest(engine, lambda version: (version, _OUR_IR), range(_OUR_OPSET, 100))
    ir = _highest(engine, lambda version: (_OUR_OPSET, version), range(_OUR_IR, 100))
    if opset is None or ir is None:
        found = f"refuses opset {_OUR_OPSET} or IR {_OUR_IR}, which models are written in"
        return Finding("onnxruntime ceilings", "problem", found, "Update onnxruntime.")
    return Finding("onnxruntime ceilings", "ok", f"opset {opset}, IR {ir}")


def _highest(
    engine: OnnxRuntimeEngine, versions: Callable[[int], tuple[int, int]], tried: range
) -> int | None:
    """The last version before the first that is refused."""
    import onnx

    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "probe", [x], [y])
    highest = None
    for version in tried:
        opset, ir = versions(version)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        model.ir_version = ir
        try:
            engine.load(model.SerializeToString())
        except PagdeployError:
            break
        highest = version
    return highest


def _onnxruntime() -> list[Finding]:
    from pagdeploy.engines.ort import OnnxRuntimeEngine, installed_onnxruntimes

    engine = OnnxRuntimeEngine()
    if problem := engine.available():
        return [Finding("onnxruntime", "problem", "not installed", problem)]
    installed = installed_onnxruntimes()
    findings = [Finding("onnxruntime", "ok", engine.version())]
    if len(installed) > 1:
        findings.append(
            Finding(
                "onnxruntime packages",
                "problem",
                f"{' and '.join(installed)} overwrite each other's files",
                "Uninstall both, then install the one that you want.",
            )
        )
    return [*findings, _onnxruntime_ceilings(engine), _self_test(engine)]


def _self_test(engine: OnnxRuntimeEngine) -> Finding:
    """Run a gate through its function body: proves that this runtime takes portable models."""
    import numpy as np
    import onnx
    import onnx.parser

    from pagdeploy.ops.bodies import attach_bodies

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        "gate (float[1, 2, 1, 2] logits) => (int32[1, 1, 1, 2] selection)"
        "{ selection = pagdeploy.PAGGate (logits) }"
    )
    logits = np.array([[[[0.0, 1.0]], [[0.0, 2.0]]]], np.float32)  # a tie, then branch 1
    try:
        session = engine.load(attach_bodies(model).SerializeToString())
        answer = session.run({"logits": logits})["selection"].ravel().tolist()
    except PagdeployError as problem:
        return Finding("portable model", "problem", str(problem), "Update onnxruntime.")
    if answer != [0, 1]:
        return Finding(
            "portable model",
            "problem",
            f"a gate answers {answer}, not [0, 1]",
            "Update onnxruntime.",
        )
    return Finding("portable model", "ok", "a gate runs through its function body")

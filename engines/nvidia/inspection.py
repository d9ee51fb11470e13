"""What TensorRT's engine inspector says of a built plan, held to the model that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pagdeploy.engines.base import TensorInfo
from pagdeploy.engines.nvidia.network import custom_nodes, written_types
from pagdeploy.errors import BuildFailed

Layers = Sequence[Mapping[str, Any]]

# The inspector's words for a type, which changed over the versions.
_WORDS = {
    "FP32": "FLOAT",
    "Float": "FLOAT",
    "FP16": "FLOAT16",
    "Half": "FLOAT16",
    "BF16": "BFLOAT16",
    "BFloat16": "BFLOAT16",
}
_TYPE = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_NUMPY = {"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}


def require_as_asked(layers: Layers, interface: Sequence[TensorInfo], model: bytes) -> None:
    """Refuse a plan that is of other types than the model, or lacks one of its plugins.

    Args:
        layers: As the engine inspector lists them.
        interface: Inputs and outputs of the engine.
        model: What it was built from, as a serialized ModelProto.

    Raises:
        BuildFailed: a node of ours is no plugin layer; or an input, an output or a value between
            two layers is of another floating-point type.
    """
    import onnx

    proto = onnx.ModelProto.FromString(model)
    _require_plugins(layers, custom_nodes(proto))
    written = written_types(proto)
    for info in interface:
        asked = _NUMPY.get(written.get(info.name, ""))
        if asked is not None and info.dtype != asked:
            raise _of_another_type(info.name, info.dtype, asked)
    for name, kind in _types(layers):
        asked = written.get(name)
        if asked in _NUMPY and kind != asked:
            raise _of_another_type(name, kind, asked)


def _require_plugins(layers: Layers, wanted: Sequence[str]) -> None:
    kinds = [(str(e.get("Name", "")), str(e.get("LayerType", "")).lower()) for e in layers]
    plugins = [name for name, kind in kinds if "plugin" in kind]
    for name in wanted:
        if not any(name in plugin for plugin in plugins):
            raise BuildFailed(
                f"The engine has no plugin layer for the node {name!r}; it has {len(plugins)} of"
                f" {len(wanted)}.",
                remedy="Update the plugin library, or build with --lowering dense.",
            )


def _types(layers: Layers) -> list[tuple[str, str]]:
    """Name and type of every layer's outputs, where the inspector tells them in words we know."""
    found = []
    for layer in layers:
        outputs = layer.get("Outputs")
        for output in outputs if isinstance(outputs, list) else []:
            text = " ".join(str(v) for k, v in output.items() if k.startswith(("Format", "Data")))
            if match := _TYPE.search(text):
                found.append((str(output.get("Name")), _WORDS[match[1]]))
    return found


def _of_another_type(name: str, got: str, asked: str) -> BuildFailed:
    return BuildFailed(
        f"The engine holds {name!r} in {got}, and the model says {asked}.",
        remedy="Build with --precision fp32, and report the model.",
    )

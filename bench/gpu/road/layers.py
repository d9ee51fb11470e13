"""Reading what TensorRT's engine inspector tells of an engine's layers."""

from __future__ import annotations

import json
from typing import Any

CONVERSIONS = ("Reformat", "Cast")


def layer_report(text: str) -> dict[str, Any]:
    """Count plugins, and name conversions at their inputs and outputs.

    Args:
        text: The inspector's JSON.

    Returns:
        plugins: how many layers are plugins; conversions: the reformat and cast layers that stand
        beside one; selection_conversions: those of them that touch int32 tensors.
    """
    layers = [layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict)]
    plugins = [layer for layer in layers if layer.get("LayerType", "").startswith("Plugin")]
    beside = {name for layer in plugins for name in _names(layer)}
    conversions = [
        layer
        for layer in layers
        if layer.get("LayerType") in CONVERSIONS and beside & _names(layer)
    ]
    return {
        "layers": len(layers),
        "plugins": len(plugins),
        "conversions": [layer["Name"] for layer in conversions],
        "selection_conversions": [layer["Name"] for layer in conversions if _is_int32(layer)],
    }


def _tensors(layer: dict[str, Any]) -> list[dict[str, Any]]:
    both = [*layer.get("Inputs", []), *layer.get("Outputs", [])]
    return [tensor for tensor in both if isinstance(tensor, dict)]


def _names(layer: dict[str, Any]) -> set[str]:
    return {tensor["Name"] for tensor in _tensors(layer)}


def _is_int32(layer: dict[str, Any]) -> bool:
    """Whether a tensor at either side holds int32, as selections do."""
    formats = [t.get("Format/Datatype", t.get("Datatype", "")) for t in _tensors(layer)]
    return any("int32" in str(text).lower() for text in formats)

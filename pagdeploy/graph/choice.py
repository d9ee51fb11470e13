"""How a convolution is to be lowered, and how it was: a word between the chooser and the passes.

A wish is metadata of a PerforatedConv; what became of it is metadata of the lowered model, so that
it can be read whatever the node was taken apart into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

LOWERINGS = ("auto", "dense", "gather", "gather-add")

_LOWERING, _THRESHOLD = "pagdeploy.lowering", "pagdeploy.threshold"
_LOWERED = "pagdeploy.lowered/"


@dataclass(frozen=True)
class Choice:
    """What is wanted of one PerforatedConv, or of the region that ends with it.

    Attributes:
        lowering: "dense": every pixel is computed. "gather": results are scattered over a copy of
            the base. "gather-add": each pixel gathers its result, or zero, and adds it to the base;
            only possible in add mode, where it is the better one unless few pixels are active.
            "auto": "gather" or, in add mode where many pixels of a frame are active, "gather-add".
        threshold: Density from which a frame is computed densely; 1 means only if all pixels are
            active, more means never. None leaves it to the pass.
    """

    lowering: str = "auto"
    threshold: float | None = None


def choice_of(node: ir.Node) -> Choice:
    """The wish that a node carries."""
    threshold = node.metadata_props.get(_THRESHOLD)
    return Choice(
        node.metadata_props.get(_LOWERING, "auto"),
        None if threshold is None else float(threshold),
    )


def choose(node: ir.Node | onnx.NodeProto, choice: Choice) -> None:
    """Attach a wish to a node."""
    wishes = {_LOWERING: choice.lowering}
    if choice.threshold is not None:
        wishes[_THRESHOLD] = repr(choice.threshold)
    if isinstance(node.metadata_props, dict):
        node.metadata_props.update(wishes)
        return
    for key, value in wishes.items():
        node.metadata_props.add(key=key, value=value)


def record(model: ir.Model, node: ir.Node, lowering: str) -> None:
    """Write down what a node became; what is computed in two ways counts as the sparser one."""
    model.metadata_props.setdefault(f"{_LOWERED}{node.name}", lowering)


def lowerings_of(model: onnx.ModelProto) -> dict[str, str]:
    """What each PerforatedConv of a lowered model became, by the node's name."""
    return {
        entry.key.removeprefix(_LOWERED): entry.value
        for entry in model.metadata_props
        if entry.key.startswith(_LOWERED)
    }

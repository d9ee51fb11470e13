"""A user's model as it is, and as the compiler understands it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.errors import VerificationFailed

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """A model from a file.

    Attributes:
        original: As it was read.
        portable: In our ops; the same object if it is so already, or if nothing was recognised.
    """

    original: onnx.ModelProto
    portable: onnx.ModelProto

    @property
    def is_foreign(self) -> bool:
        """Whether gates or masks of others were recognised in it."""
        return self.portable is not self.original


def read_source(path: Path) -> Source:
    """Read a model, and recognise gates and masked convolutions in it.

    Raises:
        UsageError, IncompatibleArtifact: as `read_model`.
    """
    from pagdeploy.graph.read import read_model
    from pagdeploy.pipeline import recognise

    original = read_model(path)
    return Source(original, recognise(original))


def random_note(model: onnx.ModelProto) -> str | None:
    """What a comparison with a model that draws random numbers is worth, for the user.

    Args:
        model: As it is run.

    Returns:
        None if it draws none.
    """
    import onnx_ir as ir

    from pagdeploy.graph.randomness import drawing_nodes

    found = [f"{node.name!r} ({node.op_type})" for node in drawing_nodes(ir.from_proto(model))]
    if not found:
        return None
    named = ", ".join([*found[:3], *["..."] * (len(found) > 3)])
    return (
        f"The model draws random numbers in {named}: two runs of it may differ, whatever computes"
        " them. Make it deterministic in evaluation mode."
    )


def recognition_note(source: Source, inputs: Arrays) -> list[str]:
    """Hold a foreign model to itself in our ops; returns what to tell the user of it.

    Args:
        source: As read.
        inputs: To compare on, by name.

    Raises:
        VerificationFailed: they differ, which is a fault of ours.
        UsageError, BuildFailed: as `run_reference`.
    """
    from pagdeploy.graph.gates import gates_of
    from pagdeploy.ops import DOMAIN
    from pagdeploy.verbs.reference import run_reference

    left = random_note(source.portable)
    if not source.is_foreign:
        return [] if left is None else [left]
    nodes = source.portable.graph.node
    convs = sum(node.domain == DOMAIN and node.op_type == "PerforatedConv" for node in nodes)
    gates = len(gates_of(source.portable))
    found = f"{_count(gates, 'gate')} and {_count(convs, 'masked convolution')} recognised"
    if left is not None:
        return [f"{found}.", left]
    if random_note(source.original) is not None:
        return [f"{found}; the model draws random numbers, so the two could not be compared."]
    ours, theirs = (run_reference(m, inputs) for m in (source.portable, source.original))
    for value in source.original.graph.output:
        result = compare(value.name, ours[value.name], theirs[value.name], NETWORK_BOUNDS["fp32"])
        if not result.passed:
            raise VerificationFailed(
                f"With its gates recognised, the model's output {value.name!r} differs by"
                f" {result.error:.3g} of its scale.",
                remedy="Report the model: the rewrite should be exact. -v shows what was done.",
            )
    return [f"{found}; the model computes the same in our ops."]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

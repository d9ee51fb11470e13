"""What hardening a model came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pagdeploy.verbs.scoring import TaskScore


@dataclass(frozen=True)
class HardenedGate:
    """A mixture that became a gate.

    Attributes:
        name: Of the gate's node.
        kind: "softmax" or "sigmoid".
        branches: How many it weighed, K; 2 behind a sigmoid: off and on.
        convolutions: That are now computed where the gate says so.
        density: Share of the decisions for each branch, in the hardened model.
        confidence: Mean weight of the branch that is chosen, in the soft model.
        undecided: Share of the decisions where that is at most a half.
    """

    name: str
    kind: str
    branches: int
    convolutions: int
    density: list[float]
    confidence: float
    undecided: float


@dataclass(frozen=True)
class Left:
    """A mixture that stays soft.

    Attributes:
        name: Of the node.
        why: As a clause.
    """

    name: str
    why: str


@dataclass(frozen=True)
class OutputChange:
    """How far an output of the hardened model is from the soft one's, on one request.

    Attributes:
        name: Of the output.
        rms: Root mean square of the difference, over that of the soft output.
        largest: Largest difference, over the largest soft value.
        agreement: Share of the pixels for which the same channel is largest, or of the integers
            that are equal; None where neither means anything.
    """

    name: str
    rms: float
    largest: float
    agreement: float | None


@dataclass(frozen=True)
class HardenResult:
    """What was hardened, and what that changes.

    Attributes:
        path: Of the portable ONNX file.
        written: Whether it was: not if it loses more than allowed.
        gates: What was soft.
        left: Mixtures that stay.
        outputs: On one request.
        macs_soft: Multiply-adds of that request, in the soft model.
        macs_hard: In the hardened one, with the decisions that it makes.
        images: Of the folder of data; 0 if there is none.
        scores: On them: `reference` is the soft model, `engine` the hardened one.
        warnings: What the user should know, one sentence each.
        reason: Why it was not written, in one sentence.
    """

    path: Path
    written: bool
    gates: list[HardenedGate]
    left: list[Left]
    outputs: list[OutputChange]
    macs_soft: float
    macs_hard: float
    images: int = 0
    scores: list[TaskScore] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reason: str | None = None

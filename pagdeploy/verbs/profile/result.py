"""What a profile says."""

from __future__ import annotations

from dataclasses import dataclass, field

from pagdeploy.measure.latency import Effort, Latency

ENGINE, MASKED, PLAIN = "engine", "masked dense", "plain dense"
BASELINES = {
    MASKED: "the same function as other stacks run it: every convolution at every pixel, then"
    " the mask",
    PLAIN: "the network without its gates: every convolution at every pixel, nothing masked;"
    " another function wherever a gate skips",
}


@dataclass(frozen=True)
class Point:
    """One request: what it computed, and how long it took on each candidate.

    Attributes:
        label: What was asked for, such as "density 0.3".
        asked: The density or the budget that was asked for; None for the request as it is.
        density: Mean over the gates with two branches; 1 if there is none.
        gates: Share of each branch, by gate.
        latency: By candidate: ENGINE, and the names in BASELINES.
        ratio: Median of a baseline over the median of the engine, by baseline.
        ceiling: The ratio that the multiply-adds would give at equal arithmetic speed.
    """

    label: str
    asked: float | None
    density: float
    gates: dict[str, list[float]]
    latency: dict[str, Latency]
    ratio: dict[str, float]
    ceiling: dict[str, float]


@dataclass(frozen=True)
class OpRow:
    """What one perforated convolution, one gate, or all other nodes of one op take.

    Attributes:
        name: Of the node in the portable model; of the op for the others.
        kind: "perforated", "gate" or "other".
        dense_ms: What it takes in the masked dense export, by onnxruntime's profiler: the sum of
            the medians of its nodes.
        engine_ms: Likewise in the engine.
        gate: Which decides for a perforated convolution, by name; or the name of the selection
            that a pass made for it.
        density: Share of the pixels that a perforated convolution computes.
        dense_macs: Its multiply-adds at every pixel.
        engine_macs: Its multiply-adds at the active pixels.
    """

    name: str
    kind: str
    dense_ms: float
    engine_ms: float
    gate: str = ""
    density: float | None = None
    dense_macs: float | None = None
    engine_macs: float | None = None

    @property
    def saved_ms(self) -> float:
        """What the engine saves against the masked dense export."""
        return self.dense_ms - self.engine_ms


@dataclass(frozen=True)
class ProfileResult:
    """A profile of one bundle.

    Attributes:
        bundle: Its path.
        engine: Name and version of what runs it.
        lowering: Of the engine.
        precision: Of the engine, and of the baselines.
        shapes: Of the inputs.
        machine: What it ran on, in words by topic.
        effort: How long was measured.
        texture: How forced decisions are spread.
        baselines: What the baselines are.
        request: On the inputs as they are.
        densities: With forced decisions, one point a density asked for.
        budgets: With its own decisions, one point a budget asked for.
        ops: Where the time goes on the inputs as they are.
        notes: What the reader should know, one sentence each.
    """

    bundle: str
    engine: str
    lowering: str
    precision: str
    shapes: dict[str, list[int]]
    machine: dict[str, str]
    effort: Effort
    texture: str
    baselines: dict[str, str]
    request: Point
    densities: list[Point] = field(default_factory=list)
    budgets: list[Point] = field(default_factory=list)
    ops: list[OpRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

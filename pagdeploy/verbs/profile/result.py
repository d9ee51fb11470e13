"""What a profile says."""

from __future__ import annotations

from dataclasses import dataclass, field

from pagdeploy.measure.bootstrap import Interval
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
class Saving:
    """Where the savings of a perforated convolution went.

    The branches of one gate that the engine runs as one node make one entry.

    Attributes:
        name: As in OpRow; of fused ones, that of the node which stands for them.
        fused: Names of the others that run in the same node.
        gate: As in OpRow.
        density: Needed over dense multiply-adds.
        dense_macs: Multiply-adds at every pixel.
        needed_macs: At the active pixels.
        plain_ms: Its node in the plain dense network; None where that has none.
        masked_ms: Its nodes in the masked dense export.
        engine_ms: Its nodes in the engine.
        allowed_ms: What the engine would take if it computed as many multiply-adds a second as
            the plain dense network does there, or, where that has no such node, the masked one.
        gap_ms: engine_ms - allowed_ms.
    """

    name: str
    fused: list[str]
    gate: str
    density: float
    dense_macs: float
    needed_macs: float
    plain_ms: float | None
    masked_ms: float
    engine_ms: float
    allowed_ms: float
    gap_ms: float


@dataclass(frozen=True)
class Balance:
    """From the plain dense network's nodes to the engine's, in milliseconds a run.

    plain_ms - possible_ms + gap_ms + gates_ms + others_ms = engine_ms.

    Attributes:
        plain_ms: All nodes of the plain dense network.
        possible_ms: What its convolutions take beyond the `allowed_ms` of the perforated ones;
            negative where a MultiPool has more branches than it saves.
        gap_ms: What the perforated convolutions take beyond that.
        gates_ms: The gates.
        others_ms: All other nodes, the engine's minus the plain dense network's.
        engine_ms: All nodes of the engine.
    """

    plain_ms: float
    possible_ms: float
    gap_ms: float
    gates_ms: float
    others_ms: float
    engine_ms: float


@dataclass(frozen=True)
class Peak:
    """What the machine reaches, by a short probe in the same process with as many threads.

    Attributes:
        gflops: Of a float32 matrix product, in 1e9 operations a second; a multiply-add is two.
        gbytes: Of a stream larger than the caches, read plus written, in 1e9 bytes a second.
        gpu: The same of a GPU; "not measured" where there was none.
    """

    gflops: float
    gbytes: float
    gpu: str = "not measured"


@dataclass(frozen=True)
class RooflinePoint:
    """A perforated convolution of the engine under the roofline (Williams et al., CACM 2009).

    Attributes:
        name: As in Saving.
        operations: Two a multiply-add that is needed.
        bytes: Compulsory traffic: every number that has to be read or written, once.
        intensity: Operations a byte.
        gflops: Reached: operations over the engine's time.
        roof_gflops: The least of the peak and intensity times bandwidth.
        limit: "compute" or "memory": which of the two that is.
        share: gflops / roof_gflops; above 1 the data came from caches.
    """

    name: str
    operations: float
    bytes: float
    intensity: float
    gflops: float
    roof_gflops: float
    limit: str
    share: float


@dataclass(frozen=True)
class Worst:
    """The slowest request among many.

    Attributes:
        point: That request.
        texture: How its decisions were spread.
        over_request: Its median over that of the network's own decisions in the same rounds.
        least_ratio: By baseline: the smallest ratio of all requests, and the label of that one.
        tried: Labels of all.
    """

    point: Point
    texture: str
    over_request: float
    least_ratio: dict[str, tuple[float, str]]
    tried: list[str]


@dataclass(frozen=True)
class Against:
    """Another bundle, timed in turn with this one.

    Attributes:
        bundle: Its path.
        engine: Name and version of what runs it.
        lowering: Of it.
        precision: Of it.
        own: Latency of this bundle in these rounds.
        other: Latency of the other one.
        speedup: Median of the other one over the median of this one, with its 95 % interval.
        verdict: "faster", "slower" or "within noise": this bundle against the other.
    """

    bundle: str
    engine: str
    lowering: str
    precision: str
    own: Latency
    other: Latency
    speedup: Interval
    verdict: str


@dataclass(frozen=True)
class Enqueue:
    """Host and GPU time of a plan, in milliseconds.

    Attributes:
        host_ms: Median time that the host takes to enqueue a run.
        gpu_ms: Median time between events before and after it on the GPU.
        bound: Whether enqueueing takes more than 0.8 of the GPU's time, where trtexec warns.
    """

    host_ms: float
    gpu_ms: float
    bound: bool


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
        savings: Where the savings went, one entry a perforated convolution.
        balance: The same of the whole network.
        peak: What the machine reaches.
        roofline: One entry a perforated convolution of a float32 engine.
        worst: The slowest forced decisions, if they were searched for.
        against: Another bundle, if one was given.
        enqueue: Of a plan.
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
    savings: list[Saving] = field(default_factory=list)
    balance: Balance | None = None
    peak: Peak | None = None
    roofline: list[RooflinePoint] = field(default_factory=list)
    worst: Worst | None = None
    against: Against | None = None
    enqueue: Enqueue | None = None

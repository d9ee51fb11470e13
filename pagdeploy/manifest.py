"""What a bundle's manifest says: the schema, and the digest that it carries of itself."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION = 3
UNSEALED = "0" * 64


Size = Annotated[int, Field(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tensor(_Part):
    """An input or output; sizes are numbers or names of dynamic sizes."""

    name: str
    dtype: str
    shape: list[Size | str]
    sample_shape: list[Size]
    sample_range: tuple[float, float]


class GateInfo(_Part):
    """A gate, by the names of its node and values; density per branch, on the sample."""

    name: str
    logits: str
    selection: str
    density: list[float]


class OpInfo(_Part):
    """A perforated convolution, how it was lowered, and what that was chosen by.

    Attributes:
        name: Of its node.
        lowering: What it became.
        density: Share of active pixels on the calibration data: the mean, and of the request with
            most; None where nothing was measured.
        largest_density: See there.
        costs_ms: Median latency of its region by lowering, at the density of the first request.
        threshold: Density from which a frame is computed densely; 1: only if all are active.
    """

    name: str
    lowering: str
    density: float | None = None
    largest_density: float | None = None
    costs_ms: dict[str, float] = {}
    threshold: float | None = None


class Profile(_Part):
    """The smallest, the expected and the largest shape of an input of a plan."""

    min: list[Size]
    opt: list[Size]
    max: list[Size]


class PlanInfo(_Part):
    """What must fit before a TensorRT plan is loaded.

    Attributes:
        profiles: One entry per optimization profile: shapes by input.
        plugins: Files of the bundle to load into the plugin registry first.
        embeds_plugins: Whether the plan holds the plugin libraries, too.
        version_compatible: Whether a newer TensorRT than the builder's may load it.
        hardware_compatibility: "none", "ampere_plus" or "same_compute_capability".
        compute_capabilities: Of the GPUs that it was built for, such as "8.9".
        timing_cache: File of the bundle with TensorRT's measurements.
        builder_optimization_level: As asked; None is TensorRT's own.
        memory_pools: As asked, in bytes by pool.
    """

    profiles: list[dict[str, Profile]]
    plugins: list[str] = []
    embeds_plugins: bool = False
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    compute_capabilities: list[str] = []
    timing_cache: str | None = None
    builder_optimization_level: Size | None = None
    memory_pools: dict[str, Bytes] = {}


class EngineInfo(_Part):
    """What runs the bundle, and what was measured when it was chosen.

    Attributes:
        flavour: Name of the engine, as after --engine.
        version: Full version of its runtime.
        file: Of the bundle: what runs.
        lowering: What the model was lowered to.
        precision: "fp32", "tf32", "fp16", "bf16" or "int8".
        keep_fp32: Regular expressions of nodes that stay float32.
        calibration: File of the bundle with the ranges of an int8 engine.
        measured_ms: By lowering.
        libraries: Files of the bundle: libraries of our onnxruntime ops.
        plan: Of a TensorRT engine.
    """

    flavour: Literal["onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx"]
    version: str
    file: str
    lowering: Literal["gather", "dense", "plugin", "native"]
    precision: Literal["fp32", "tf32", "fp16", "bf16", "int8"]
    keep_fp32: list[str] = []
    calibration: str | None = None
    measured_ms: dict[str, float] = {}
    libraries: list[str] = []
    plan: PlanInfo | None = None


class Host(_Part):
    """Where the bundle was built."""

    system: str
    machine: str
    python: str
    gpu: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None


class Manifest(_Part):
    """Everything a target needs to know before it opens another file of the bundle."""

    format: Literal["pagbundle"] = "pagbundle"
    format_version: int = FORMAT_VERSION
    pagdeploy_version: str
    engine: EngineInfo
    host: Host
    source_sha256: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    gates: list[GateInfo]
    ops: list[OpInfo]
    files: dict[str, str]
    digest: str = UNSEALED

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        """Refuse what no build writes: later code relies on it."""
        plan = self.engine.plan
        if (plan is not None) != self.engine.flavour.startswith("tensorrt"):
            raise ValueError("a plan belongs to TensorRT, and TensorRT to a plan")
        names = {tensor.name for tensor in self.inputs}
        if plan is not None and not all(set(p) <= names for p in plan.profiles):
            raise ValueError("a profile is of an input")
        return self


def digest_of(text: bytes, digest: str) -> str:
    """SHA-256 over a manifest's file as it stands, with zeros in the place of the digest itself.

    So whoever reads the file needs no JSON writer that agrees with Python's.

    Raises:
        ValueError: the digest does not stand in the text exactly once.
    """
    if len(digest.encode()) != len(UNSEALED) or text.count(digest.encode()) != 1:
        raise ValueError("a manifest carries one digest of itself")
    return hashlib.sha256(text.replace(digest.encode(), UNSEALED.encode())).hexdigest()

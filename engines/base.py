"""What every engine promises, and how a request is checked before a native library sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import UsageError
from pagdeploy.manifest import PlanInfo, Profile

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an engine.

    Attributes:
        name: As in the graph.
        dtype: numpy's name of the element type, such as "float32".
        shape: One entry per axis: a number, or the name of a dynamic size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.shape))})"

    def accepts(self, array: Array) -> bool:
        """Whether an array's dtype and sizes fit; dynamic sizes must be positive."""
        return (
            array.dtype == np.dtype(self.dtype)
            and array.ndim == len(self.shape)
            and all(
                size == want if isinstance(want, int) else size > 0
                for size, want in zip(array.shape, self.shape, strict=True)
            )
        )


class Session(Protocol):
    """A loaded engine, ready to run."""

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """What it gives."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong dtype or shape.
        """


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built; one that compiles nothing has no use for most of it.

    Attributes:
        precision: "fp32", "tf32", "fp16", "bf16" or "int8"; the model's types say it already.
        profiles: Optimization profiles: shapes by input. Empty for a model of fixed sizes.
        plugins: Further plugin libraries of the user's, for ops that are not ours.
        memory_pools: Largest size of a memory pool in bytes, by its name, such as "workspace".
        builder_optimization_level: 0 to 5; None leaves TensorRT's own.
        version_compatible: Let a newer TensorRT load the plan.
        hardware_compatibility: "none", "ampere_plus" or "same_compute_capability".
        compute_capabilities: GPUs to build for, such as "8.9", where that can be chosen.
        timing_cache: Where measurements are kept between builds; None keeps them in the user's
            cache folder.
        timing_cache_seed: Measurements to begin with where none are kept yet.
        use_timing_cache: False measures everything anew.
        error_on_timing_cache_miss: Fail where a measurement would be needed, so that two builds
            choose the same kernels.
        progress: Told of the builder's own steps.
    """

    precision: str = "fp32"
    profiles: Sequence[Mapping[str, Profile]] = ()
    plugins: Sequence[Path] = ()
    memory_pools: Mapping[str, int] = field(default_factory=dict)
    builder_optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    compute_capabilities: Sequence[str] = ()
    timing_cache: Path | None = None
    timing_cache_seed: Path | None = None
    use_timing_cache: bool = True
    error_on_timing_cache_miss: bool = False
    progress: Callable[[str, int, int], None] | None = None


def flags_asked(options: BuildOptions) -> list[str]:
    """The flags behind what a user asked of a plan; an engine refuses those that it cannot obey."""
    flags = (
        (options.profiles, "--min-shapes"),
        (options.plugins, "--plugins"),
        (options.memory_pools, "--mem-pool-size"),
        (options.builder_optimization_level is not None, "--builder-optimization-level"),
        (options.version_compatible, "--version-compatible"),
        (options.hardware_compatibility != "none", "--hardware-compatibility-level"),
        (options.compute_capabilities, "--compute-capability"),
        (options.timing_cache, "--timing-cache"),
        (options.error_on_timing_cache_miss, "--error-on-timing-cache-miss"),
    )
    return [flag for asked, flag in flags if asked]


@dataclass(frozen=True)
class Built:
    """What came out of a build.

    Attributes:
        content: Of the file that runs.
        plan: What must fit before it is loaded, if it is a TensorRT plan.
        plugins: Libraries to load first.
        timing_cache: TensorRT's measurements.
        notes: What the user should know, one sentence each.
    """

    content: bytes
    plan: PlanInfo | None = None
    plugins: Sequence[Path] = ()
    timing_cache: bytes | None = None
    notes: Sequence[str] = ()


class Engine(Protocol):
    """One way to run a portable model.

    Attributes:
        name: As the user spells it after --engine.
        precisions: What it computes in.
        integer_kernels: Whether int8 is written for onnxruntime's kernels on a CPU
            (`pagdeploy.precision`).
        file: What its file is called in a bundle.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    integer_kernels: ClassVar[bool]
    file: ClassVar[str]

    @property
    def lowerings(self) -> tuple[str, ...]:
        """What the pipeline can make for it here, the one that is expected to be fastest first."""

    def available(self) -> str | None:
        """None, or why nothing can be built here, with the remedy."""

    def runnable(self) -> str | None:
        """None, or why nothing can be run here, with the remedy."""

    def version(self) -> str:
        """Full version of the runtime."""

    def build(self, model: bytes, options: BuildOptions) -> Built:
        """Make the file that runs from a lowered model.

        Raises:
            UsageError: an option is none of this engine's.
            EnvironmentProblem: something that the build needs is not here.
            BuildFailed: the model is sound, but no engine came out of it.
        """

    def load(
        self,
        engine: bytes,
        *,
        plan: PlanInfo | None = None,
        plugins: Sequence[Path] = (),
        threads: int = 0,
        taking_turns: bool = False,
        host_code: bool = False,
    ) -> Session:
        """A session for what `build` made.

        Args:
            engine: The file's content.
            plan: What must fit, for a TensorRT plan.
            plugins: Libraries to load first.
            threads: Threads inside one operator, on a CPU; 0 takes one per core.
            taking_turns: The session is timed against others of the same process.
            host_code: Let a plan that holds code of its own run it here.
        """


def check_inputs(wanted: Sequence[TensorInfo], given: Arrays) -> None:
    """Refuse inputs that a session cannot take.

    Raises:
        UsageError: an input is missing, unknown, or of a wrong dtype or shape; the message names
            what is there and what is wanted.
    """
    listing = "; ".join(map(str, wanted))
    by_name = {info.name: info for info in wanted}
    for name in given:
        if name not in by_name:
            raise UsageError(
                f"The model has no input named {name!r}.", remedy=f"Its inputs are {listing}."
            )
    for name, info in by_name.items():
        if name not in given:
            raise UsageError(
                f"The input {name!r} is missing.", remedy=f"Give every input: {listing}."
            )
        array = given[name]
        if not info.accepts(array):
            shape = ", ".join(map(str, array.shape))
            raise UsageError(
                f"The input {name!r} is {array.dtype} ({shape}).",
                remedy=f"The model wants {info}.",
            )

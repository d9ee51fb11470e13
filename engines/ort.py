"""The onnxruntime engines: on the CPU, the default and the reference; and on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pagdeploy.bundle import ENGINE_ONNX
from pagdeploy.engines.base import (
    Array,
    Arrays,
    BuildOptions,
    Built,
    TensorInfo,
    check_inputs,
    flags_asked,
)
from pagdeploy.engines.nvidia.driver import why_no_gpu
from pagdeploy.engines.ort_native import needs_library, op_library
from pagdeploy.errors import BuildFailed, EnvironmentProblem, UsageError
from pagdeploy.manifest import PlanInfo

_CUDA = "CUDAExecutionProvider"
_TOO_NEW = re.compile(
    r"Opset (\d+) is under development.*? is till opset (\d+)"
    r"|model IR version: (?P<ir>\d+), max supported IR version: (?P<ir_known>\d+)",
    re.DOTALL,
)
_DTYPES = {"float": "float32", "double": "float64"}  # onnxruntime's name -> numpy's


class OnnxRuntimeEngine:
    """Stock onnxruntime on the CPU: standard ONNX operators, and ours where they are built."""

    name: ClassVar[str] = "onnxruntime"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    integer_kernels: ClassVar[bool] = True
    file: ClassVar[str] = ENGINE_ONNX

    @property
    def lowerings(self) -> tuple[str, ...]:
        """Standard ONNX, and our own ops where their library is installed."""
        return ("native", "gather", "dense") if op_library() else ("gather", "dense")

    def available(self) -> str | None:
        """None, or why onnxruntime cannot be used here."""
        try:
            _onnxruntime()
        except EnvironmentProblem as problem:
            return str(problem)
        return None

    def runnable(self) -> str | None:
        """What is built is run by the same runtime."""
        return self.available()

    def version(self) -> str:
        """The version of onnxruntime."""
        return str(_onnxruntime().__version__)

    def build(self, model: bytes, options: BuildOptions) -> Built:
        """The lowered model itself: onnxruntime compiles it when it is loaded.

        Raises:
            UsageError: options that only a compiled plan could obey.
        """
        for flag in flags_asked(options):
            raise UsageError(
                f"The option {flag} belongs to TensorRT, and the engine is {self.name}.",
                remedy="Leave it out, or build with --engine tensorrt.",
            )
        return Built(model, plugins=self._libraries(model, ()))

    def load(
        self,
        engine: bytes,
        *,
        plan: PlanInfo | None = None,
        plugins: Sequence[Path] = (),
        threads: int = 0,
        taking_turns: bool = False,
        host_code: bool = False,
    ) -> OnnxRuntimeSession:
        """Load a model on this engine's execution provider.

        Args:
            engine: A serialized ModelProto that passed `graph.read.check_model`.
            plan: None; onnxruntime has no plans.
            plugins: Libraries of our ops; by default the installed one, if the model needs it.
            threads: Threads inside one operator; 0 takes one per core.
            taking_turns: Other sessions of this process run in between, so idle threads sleep
                instead of spinning on cores that the others need. Set it for every candidate of a
                comparison.
            host_code: Nothing; a model holds none.

        Raises:
            EnvironmentProblem: onnxruntime is not installed, or its provider does not start.
            BuildFailed: onnxruntime refuses the model.
        """
        ort = self._runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        for library in self._libraries(engine, plugins):
            options.register_custom_ops_library(str(library))
        if taking_turns:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(engine, options, providers=self._providers())
        except Exception as problem:  # onnxruntime raises several types of its own
            if newer := _TOO_NEW.search(str(problem)):
                had, known = (newer["ir"], newer["ir_known"]) if newer["ir"] else newer.group(1, 2)
                what = "IR version" if newer["ir"] else "opset"
                raise BuildFailed(
                    f"The model is of {what} {had}, and onnxruntime {ort.__version__} knows those"
                    f" up to {known}.",
                    remedy="Update onnxruntime, or export the model at an older opset.",
                ) from None
            raise BuildFailed(
                f"onnxruntime {ort.__version__} refuses the model ({_first_line(problem)}).",
                remedy="Check it with 'pagdeploy inspect', or update onnxruntime.",
            ) from None
        self._require_provider(session)
        return OnnxRuntimeSession(session)

    def _libraries(self, model: bytes, given: Sequence[Path]) -> Sequence[Path]:
        """What a model needs: nothing, if it has a body for each of our ops, as the reference."""
        if given or not needs_library(model):
            return given
        library = op_library()
        if library is None:
            raise EnvironmentProblem(
                "The model was lowered to our onnxruntime ops, whose library is not here.",
                remedy="Build it as docs/plugins.md says, or build the bundle again with --lowering"
                " gather.",
            )
        return [library]

    def _runtime(self) -> Any:
        return _onnxruntime()

    def _providers(self) -> list[Any]:
        return ["CPUExecutionProvider"]

    def _require_provider(self, session: Any) -> None:
        """Every onnxruntime has the CPU provider."""


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """onnxruntime-gpu with its CUDA execution provider: any NVIDIA GPU, no TensorRT needed."""

    name: ClassVar[str] = "onnxruntime-cuda"
    integer_kernels: ClassVar[bool] = False

    @property
    def lowerings(self) -> tuple[str, ...]:
        """Standard ONNX; our ops are there for the CPU alone."""
        return ("gather", "dense")

    def available(self) -> str | None:
        """None, or why onnxruntime's CUDA provider cannot be used here."""
        if problem := super().available():
            return problem
        if _CUDA not in _onnxruntime().get_available_providers():
            missing = EnvironmentProblem.missing_extra(
                "onnxruntime-gpu", "gpu", "Running on a GPU with onnxruntime"
            )
            return f"{missing}. Uninstall onnxruntime first: the two overwrite each other."
        obstacle = why_no_gpu()
        return None if obstacle is None else str(obstacle)

    def _runtime(self) -> Any:
        ort = _onnxruntime()
        if hasattr(ort, "preload_dlls"):  # CUDA from pip lies where no loader looks
            with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
                ort.preload_dlls()
        return ort

    def _providers(self) -> list[Any]:
        # Float32 means float32: TensorFloat-32 has to be asked for. The exhaustive search times the
        # convolutions of the first run, so that later ones are as fast as they get.
        options = {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}
        return [(_CUDA, options), "CPUExecutionProvider"]

    def _require_provider(self, session: Any) -> None:
        """Refuse the silent way back to the CPU that onnxruntime takes if it lacks a library."""
        if _CUDA not in session.get_providers():
            raise EnvironmentProblem(
                "onnxruntime could not start its CUDA provider and went back to the CPU.",
                remedy="See which library it lacks with 'pagdeploy doctor'.",
            )


class OnnxRuntimeSession:
    """A model loaded in onnxruntime; safe to run from several threads."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [_info(value) for value in session.get_inputs()]
        self._outputs = [_info(value) for value in session.get_outputs()]

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """What it takes."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """What it gives."""
        return self._outputs

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong dtype or shape.
            BuildFailed: an operator fails at run time, for example on sizes that do not fit.
        """
        check_inputs(self.inputs, inputs)
        feeds = {name: np.asarray(array, order="C") for name, array in inputs.items()}
        try:
            values = self._session.run(None, feeds)
        except Exception as problem:  # onnxruntime raises several types of its own
            shapes = ", ".join(f"{n} {tuple(a.shape)}" for n, a in inputs.items())
            raise BuildFailed(
                f"onnxruntime fails on the input {shapes} ({_first_line(problem)}).",
                remedy="Try the sizes that the model was exported with ('pagdeploy inspect').",
            ) from None
        return {info.name: value for info, value in zip(self.outputs, values, strict=True)}


def installed_onnxruntimes() -> list[str]:
    """Distributions that provide onnxruntime, as "name version"; two overwrite each other."""
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as problem:
        if isinstance(problem, ModuleNotFoundError) and problem.name == "onnxruntime":
            raise EnvironmentProblem.missing_extra(
                "onnxruntime", "cpu", "Building and running on the CPU"
            ) from None
        if (stop := _stop_behind(problem)) is not None:
            raise stop from None
        raise EnvironmentProblem(
            f"onnxruntime is installed, but cannot be imported ({_first_line(problem)}).",
            remedy="Install it again: pip install --force-reinstall onnxruntime",
        ) from None
    return onnxruntime


def _stop_behind(problem: BaseException | None) -> BaseException | None:
    """Ctrl-C or an exit at the root; native modules report it as an import that failed."""
    while isinstance(problem, Exception):
        problem = problem.__cause__ or problem.__context__
    return problem


def _info(value: Any) -> TensorInfo:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in value.shape)
    return TensorInfo(value.name, _DTYPES.get(kind, kind), shape)


def _first_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__).rstrip(".")

"""The onnxruntime engine: the default where there is no NVIDIA GPU, and the reference."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import metadata
from typing import Any, ClassVar

import numpy as np

from pagdeploy.engines.base import Array, Arrays, TensorInfo, check_inputs
from pagdeploy.errors import BuildFailed, EnvironmentProblem

_DTYPES = {"float": "float32", "double": "float64"}  # onnxruntime's name -> numpy's


class OnnxRuntimeEngine:
    """Stock onnxruntime on the CPU, with standard ONNX operators only."""

    name: ClassVar[str] = "onnxruntime"
    lowerings: ClassVar[tuple[str, ...]] = ("gather", "dense")

    def available(self) -> str | None:
        """None, or why onnxruntime cannot be used here."""
        try:
            _onnxruntime()
        except EnvironmentProblem as problem:
            return str(problem)
        return None

    def version(self) -> str:
        """The version of onnxruntime."""
        return str(_onnxruntime().__version__)

    def load(
        self, model: bytes, *, threads: int = 0, taking_turns: bool = False
    ) -> OnnxRuntimeSession:
        """Load a model on the CPU provider.

        Args:
            model: A serialized ModelProto that passed `graph.read.check_model`.
            threads: Threads inside one operator; 0 takes one per core.
            taking_turns: Other sessions of this process run in between, so idle threads sleep
                instead of spinning on cores that the others need. Set it for every candidate of a
                comparison.

        Raises:
            EnvironmentProblem: onnxruntime is not installed.
            BuildFailed: onnxruntime refuses the model.
        """
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        if taking_turns:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # onnxruntime raises several types of its own
            raise BuildFailed(
                f"onnxruntime {ort.__version__} refuses the model ({_first_line(problem)}).",
                remedy="Check it with 'pagdeploy inspect', or update onnxruntime.",
            ) from None
        return OnnxRuntimeSession(session)


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
        feeds = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
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

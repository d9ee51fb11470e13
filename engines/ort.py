"""The onnxruntime engine: the default where there is no NVIDIA GPU, and the reference."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from importlib import metadata
from typing import Any, ClassVar

import numpy as np

from pagdeploy.engines.base import Array, Arrays, TensorInfo, check_inputs
from pagdeploy.errors import BuildFailed, EnvironmentProblem, UsageError

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

    def load(self, model: bytes, *, threads: int = 0) -> OnnxRuntimeSession:
        """Load a model on the CPU provider.

        Args:
            model: A serialized ModelProto that passed `graph.read.check_model`.
            threads: Threads inside one operator; 0 takes one per core, from a pool that all such
                sessions of the process share, so that one session's idle threads do not spin on
                another's cores.

        Raises:
            UsageError: threads are asked for, but an earlier session has made the shared pool,
                beside which onnxruntime allows no other.
            EnvironmentProblem: onnxruntime is not installed.
            BuildFailed: onnxruntime refuses the model.
        """
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if threads and _shared_pool.cache_info().currsize and _shared_pool():
            raise UsageError(
                "This process already runs sessions on shared threads, one per core.",
                remedy="Leave the number of threads out, or ask for it in a process of its own.",
            )
        if threads:
            options.intra_op_num_threads = threads
        elif _shared_pool():
            options.use_per_session_threads = False
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
    except ImportError:
        raise EnvironmentProblem.missing_extra(
            "onnxruntime", "cpu", "Building and running on the CPU"
        ) from None
    return onnxruntime


@functools.cache
def _shared_pool() -> bool:
    ort = _onnxruntime()
    if not hasattr(ort, "set_global_thread_pool_sizes"):  # before 1.24
        return False
    ort.set_global_thread_pool_sizes(len(os.sched_getaffinity(0)), 1)
    return True


def _info(value: Any) -> TensorInfo:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else str(size or "?") for size in value.shape)
    return TensorInfo(value.name, _DTYPES.get(kind, kind), shape)


def _first_line(problem: Exception) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__).rstrip(".")

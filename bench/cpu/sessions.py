"""Sessions of onnxruntime that share one thread pool, with inputs and outputs where they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from pagdeploy.engines.ort_native import needs_library, op_library


def use_threads(threads: int) -> None:
    """Make the pool that all sessions of this process share; it cannot be changed any more.

    With a pool for each, the idle threads of one would spin on the cores that another needs.
    """
    ort.set_global_thread_pool_sizes(threads, 1)


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session on the CPU, on the shared pool, with our op library if the model needs it."""
    serialized = model.SerializeToString()
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.log_severity_level = 3
    if needs_library(serialized):
        options.register_custom_ops_library(str(op_library()))
    return ort.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])


class Bound:
    """A session of one float32 output `y` of a known shape."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = session_of(model)
        self._binding = self._session.io_binding()
        self._y = np.empty(self._session.get_outputs()[0].shape, np.float32)
        self._kept: dict[str, Any] = {}

    def feed(self, **arrays: npt.NDArray[np.generic]) -> None:
        """Bind inputs by name."""
        self._kept = {name: ort.OrtValue.ortvalue_from_numpy(a) for name, a in arrays.items()}
        for name, value in self._kept.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output(
            "y", "cpu", 0, np.float32, list(self._y.shape), self._y.ctypes.data
        )

    def run(self) -> npt.NDArray[np.float32]:
        """The output, valid until the next run."""
        self._session.run_with_iobinding(self._binding)
        return self._y

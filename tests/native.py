"""The built onnxruntime op library, for tests that run with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from pagdeploy.engines.ort_native import VARIABLE

NAME = "libpagdeploy_ort.so"
_BUILD = Path(__file__).parents[1] / "build"


def built_op_library() -> Path | None:
    """The one that PAGDEPLOY_ORT_OPS names, or the newest below build/."""
    given = os.environ.get(VARIABLE)
    found = [Path(given)] if given else list(_BUILD.glob(f"**/{NAME}"))
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def op_library() -> Path:
    """The built one, or a skip if there is none."""
    found = built_op_library()
    if found is None:
        pytest.skip(f"no {NAME} below build/: needs onnxruntime's headers")
    return found


def native_session(model: onnx.ModelProto, library: Path, threads: int = 2) -> Any:
    """A session with the library, whose threads sleep between runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_native(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, with the library, or a skip."""
    outputs: list[np.ndarray] = native_session(model, op_library()).run(None, dict(feeds))
    return outputs

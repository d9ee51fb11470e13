"""Writing a model: one file, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.errors import BuildFailed
from pagdeploy.files import replacing_file

if TYPE_CHECKING:
    import onnx

_PROTOBUF_LIMIT = 2**31 - 1  # bytes


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model as one file.

    Raises:
        UsageError: the folder does not exist or cannot be written to.
        BuildFailed: the model is larger than 2 GiB.
    """
    if model.ByteSize() > _PROTOBUF_LIMIT:
        raise BuildFailed(
            f"The model is {model.ByteSize() / 2**30:.1f} GiB; one ONNX file holds at most 2.",
            remedy="Store the weights in half precision, or split the model.",
        )
    with replacing_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())

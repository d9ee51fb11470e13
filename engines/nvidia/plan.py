"""The header of a TensorRT plan: who wrote it, and whether all of it is there.

    byte   0  "ftrt" TensorRT, "vtrt" TensorRT-RTX, "ptrt" TensorRT 8.5 and older
           4  0, the version of this layout
           8  number of sections; in "ptrt" the serialization version
          16  size of the file; in "ptrt" of what follows the header
          24  version of the builder: major, minor, patch, build; not in "ptrt"
          32  GPUs that a "vtrt" plan is for, one bit each

All numbers are little-endian. NVIDIA publishes the tag, the layout's version and bytes 24 to 27
(trtexec, samples/common/sampleEngines.cpp). The other fields are as found in plans of TensorRT 8.2,
8.6.1 and 10.15.1 and TensorRT-RTX 1.7.1.
"""

from __future__ import annotations

import io
import json
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.files import is_file

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"

_FLAVOURS = {b"ftrt": TENSORRT, b"vtrt": TENSORRT_RTX, b"ptrt": TENSORRT}
_HEADER = struct.Struct("<4sI Q Q 4B 4s I")
_OLD_HEADER_BYTES = 24
_RTX_GPUS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")  # of bits 0, 1, ...
_LONGEST_METADATA = 1 << 20  # bytes in front of a plan
_BUILD_AGAIN = "Build it again, or copy it again if it was copied."


@dataclass(frozen=True)
class PlanHeader:
    """What a plan says of itself.

    Attributes:
        flavour: "tensorrt" or "tensorrt-rtx", as after --engine.
        version: Of the builder, "10.15.1.29"; None in plans of TensorRT 8.5 and older.
        serialization: Version of the format in plans of TensorRT 8.5 and older, or None.
        size: Of the file, in bytes.
        compute_capabilities: Of the GPUs it is for, "8.9"; empty where the header does not say.
    """

    flavour: str
    version: str | None
    serialization: int | None
    size: int
    compute_capabilities: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = "TensorRT-RTX" if self.flavour == TENSORRT_RTX else "TensorRT"
        return f"{name} {self.version or '8.5 or older'}"


def is_plan(path: Path) -> bool:
    """Whether a file begins like a plan, or like metadata in front of one; it may be damaged."""
    if not is_file(path):
        return False
    with path.open("rb") as stream:
        return stream.read(4) in _FLAVOURS or _metadata_bytes(stream) is not None


def read_plan_header(path: Path) -> PlanHeader:
    """Read the header of a plan; no native library sees the file.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: it is no plan, is truncated, has something behind or in front of it,
            or its header has a layout that is not known.
    """
    if not is_file(path):
        raise UsageError(f"There is no file {path}.", remedy="Check the path.")
    with path.open("rb") as stream:
        return _read(stream, path.stat().st_size, str(path))


def parse_plan_header(content: bytes, name: str) -> PlanHeader:
    """The same for a plan in memory; `name` is what an error calls it.

    Raises:
        IncompatibleArtifact: as `read_plan_header`.
    """
    return _read(io.BytesIO(content), len(content), name)


def _read(stream: BinaryIO, size: int, name: str) -> PlanHeader:
    start = stream.read(_HEADER.size)
    if (metadata := _metadata_bytes(stream)) is not None:
        raise IncompatibleArtifact(
            f"{name} has {metadata} bytes of JSON in front of its plan, as Ultralytics writes"
            " them, and TensorRT cannot read it.",
            remedy=f"Take them off: tail -c +{metadata + 1} {shlex.quote(name)} > plain.engine",
        )
    if start[:4] not in _FLAVOURS:
        raise IncompatibleArtifact(
            f"{name} is not a TensorRT plan: it begins with {start[:4]!r}.",
            remedy="Give the file that 'pagdeploy build' or trtexec wrote.",
        )
    if len(start) < _HEADER.size:
        raise IncompatibleArtifact(
            f"{name} is truncated: {size} bytes are not even a plan's header.", remedy=_BUILD_AGAIN
        )
    tag, layout, second, declared, *version, _, gpus = _HEADER.unpack(start)
    old = tag == b"ptrt"
    if layout != 0:
        raise IncompatibleArtifact(
            f"{name} is a TensorRT plan whose header has layout {layout}, which is not known.",
            remedy="Update pagdeploy, or build the plan again with an older TensorRT.",
        )
    declared += _OLD_HEADER_BYTES if old else 0
    if declared != size:
        fault = "is truncated" if declared > size else "has something behind its end"
        raise IncompatibleArtifact(
            f"{name} {fault}: its header promises {declared} bytes, and it has {size}.",
            remedy=_BUILD_AGAIN,
        )
    return PlanHeader(
        flavour=_FLAVOURS[tag],
        version=None if old else ".".join(map(str, version)),
        serialization=second if old else None,
        size=size,
        compute_capabilities=_gpus(gpus) if tag == b"vtrt" else (),
    )


def _gpus(bits: int) -> tuple[str, ...]:
    """The compute capabilities behind the bits; none if there is one that we cannot name."""
    if bits >> len(_RTX_GPUS):
        return ()
    return tuple(name for bit, name in enumerate(_RTX_GPUS) if bits >> bit & 1)


def _metadata_bytes(stream: BinaryIO) -> int | None:
    """How many bytes stand in front of the plan: a length and that many bytes of JSON."""
    stream.seek(0)
    start = stream.read(5)
    length = int.from_bytes(start[:4], "little")
    if start[4:] != b"{" or length > _LONGEST_METADATA:
        return None
    stream.seek(4)
    try:
        json.loads(stream.read(length))
    except (ValueError, RecursionError):
        return None
    return 4 + length if stream.read(4) in _FLAVOURS else None

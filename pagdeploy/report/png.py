"""Small PNG files from arrays, with nothing but zlib, so that reports need no further package."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB, _INDEXED = 2, 3


def indexed_png(indices: npt.NDArray[Any], palette: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of colours by number.

    Args:
        indices: (H, W), of 0..len(palette) - 1.
        palette: RGB, (n, 3), n at most 256.
    """
    rows = np.asarray(indices, np.uint8)  # (H, W)
    lines = np.concatenate([np.zeros((rows.shape[0], 1), np.uint8), rows], axis=1)
    return _png(rows.shape, _INDEXED, lines.tobytes(), palette.astype(np.uint8).tobytes())


def rgb_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of a picture.

    Args:
        pixels: RGB, (H, W, 3).
    """
    height, width, _ = pixels.shape
    above = np.zeros_like(pixels)
    above[1:] = pixels[:-1]
    # Each byte less the one above it, which PNG calls filter 2: photographs become much smaller.
    rows = (pixels - above).reshape(height, width * 3)
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), rows], axis=1)
    return _png((height, width), _RGB, lines.tobytes(), None)


def _png(size: tuple[int, ...], kind: int, lines: bytes, palette: bytes | None) -> bytes:
    height, width = size
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette))
    parts += [_chunk(b"IDAT", zlib.compress(lines, 9)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

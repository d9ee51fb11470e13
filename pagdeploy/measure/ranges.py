"""The ranges of a network's values: what int8 is scaled by, and what overflows in float16."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.files import replacing_file

LARGEST, SMALLEST_NORMAL = 65504.0, 2.0**-14  # of float16
HEADROOM = 8  # inputs that nobody calibrated with may be that much larger
_SAMPLE = 2**14  # numbers kept per value and request: enough to place a clip
_STEPS = 127  # of symmetric int8, as TensorRT quantizes
_CANDIDATES = np.linspace(1.0, 0.1, 46)  # clips that are tried, as shares of the largest


@dataclass(frozen=True)
class ValueRange:
    """What a value was seen to hold.

    Attributes:
        low: Smallest finite number.
        high: Largest finite number.
        clip: Magnitude beyond which int8 saturates: the one of least mean squared error.
        tiny: Share of the nonzero numbers that float16 holds as subnormal or as zero.
    """

    low: float
    high: float
    clip: float
    tiny: float

    @property
    def interval(self) -> tuple[float, float]:
        """What to quantize: the range within the clip."""
        return max(self.low, -self.clip), min(self.high, self.clip)


class RangeCollector:
    """Collects ranges from arrays, in memory that does not grow with the arrays."""

    def __init__(self) -> None:
        self._limits: dict[str, tuple[float, float]] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._samples: dict[str, list[npt.NDArray[np.float32]]] = {}

    def add(self, name: str, array: npt.NDArray[Any]) -> None:
        """Take note of one value; NaN and infinities are left out.

        Args:
            name: Of the value.
            array: Floats of any shape.
        """
        flat = array.ravel()
        finite = flat[np.isfinite(flat)]
        if not finite.size:
            return
        low, high = self._limits.get(name, (math.inf, -math.inf))
        self._limits[name] = min(low, float(finite.min())), max(high, float(finite.max()))
        magnitudes = np.abs(finite)
        tiny, nonzero = self._counts.get(name, (0, 0))
        nonzero += int(np.count_nonzero(magnitudes))
        tiny += int(np.count_nonzero((magnitudes > 0) & (magnitudes < SMALLEST_NORMAL)))
        self._counts[name] = tiny, nonzero
        step = -(-magnitudes.size // _SAMPLE)
        self._samples.setdefault(name, []).append(magnitudes[::step].astype(np.float32))

    def ranges(self) -> dict[str, ValueRange]:
        """The range of every value that held a finite number."""
        result = {}
        for name, (low, high) in self._limits.items():
            tiny, nonzero = self._counts[name]
            clip = least_squares_clip(np.concatenate(self._samples[name]), max(-low, high))
            result[name] = ValueRange(low, high, clip, tiny / max(1, nonzero))
        return result


def least_squares_clip(magnitudes: npt.NDArray[np.float32], largest: float) -> float:
    """The clip of least mean squared error after symmetric quantization to 8 bits.

    Range setting by mean squared error, searched on a grid: Nagel et al. 2021 (A White Paper on
    Neural Network Quantization, arXiv 2106.08295, section 3.1). Unlike a percentile it does not
    cut off a value's few large, meaningful numbers.

    Args:
        magnitudes: A sample of |x|, (n,).
        largest: The largest |x| of all; 0 gives 0.
    """
    if largest == 0:
        return 0.0
    clips = largest * _CANDIDATES  # (candidates,)
    errors = []
    for clip in clips:
        step = clip / _STEPS
        rounded = np.minimum(np.round(magnitudes / step), _STEPS) * step  # (n,)
        errors.append(float(np.square(rounded - magnitudes, dtype=np.float64).mean()))
    return float(clips[int(np.argmin(errors))])


@dataclass(frozen=True)
class RangeWarning:
    """A value that float16 does not hold well.

    Attributes:
        value: Its name.
        kind: "overflow", "near overflow" or "underflow".
        nodes: Names of the nodes to keep in float32: who computes it and who reads it.
        message: What was seen, and the option that mends it, as one sentence.
    """

    value: str
    kind: str
    nodes: tuple[str, ...]
    message: str


def float16_warnings(
    ranges: Mapping[str, ValueRange], neighbours: Mapping[str, Sequence[str]]
) -> list[RangeWarning]:
    """What to warn of before a network is cast to float16, the worst first.

    Args:
        ranges: By name of the value.
        neighbours: For every value that is to be held in float16, the nodes to keep in float32
            so that it is not.
    """
    found = []
    for name, nodes in neighbours.items():
        if name not in ranges:
            continue
        seen = ranges[name]
        largest = max(-seen.low, seen.high)
        if largest > LARGEST:
            kind, what = "overflow", f"reaches {largest:.3g}, and float16 ends at {LARGEST:.0f}"
        elif largest > LARGEST / HEADROOM:
            kind = "near overflow"
            what = f"reaches {largest:.3g}, near the end of float16 at {LARGEST:.0f}"
        elif seen.tiny > 0.5:
            kind = "underflow"
            what = f"is below {SMALLEST_NORMAL:.1g} in {seen.tiny:.0%} of its nonzero numbers"
        else:
            continue
        message = f"The value {name!r} {what}: --keep-fp32 '{exact_pattern(nodes)}'."
        found.append((kind, largest, RangeWarning(name, kind, tuple(nodes), message)))
    order = {"overflow": 0, "near overflow": 1, "underflow": 2}
    found.sort(key=lambda each: (order[each[0]], -each[1]))
    return [warning for _, _, warning in found]


def exact_pattern(nodes: Iterable[str]) -> str:
    """A regular expression that matches these names and no others."""
    names = [re.escape(name) for name in dict.fromkeys(nodes)]
    return f"^{names[0]}$" if len(names) == 1 else f"^({'|'.join(names)})$"


def write_ranges(path: Path, ranges: Mapping[str, ValueRange]) -> None:
    """Write ranges as JSON.

    Raises:
        UsageError: the folder does not exist or cannot be written to.
    """
    content = {"version": 1, "values": {name: asdict(seen) for name, seen in ranges.items()}}
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_ranges(path: Path) -> dict[str, ValueRange]:
    """Read what `write_ranges` wrote.

    Raises:
        IncompatibleArtifact: the file holds something else, or numbers that cannot be right.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != 1:
            raise ValueError("of another version")
        ranges = {str(name): ValueRange(**fields) for name, fields in content["values"].items()}
        if not all(_is_sound(seen) for seen in ranges.values()):
            raise ValueError("numbers that cannot be right")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise IncompatibleArtifact(
            f"{path} does not hold the ranges of a calibration.",
            remedy="Build again with --calibration-data.",
        ) from None
    return ranges


def _is_sound(seen: ValueRange) -> bool:
    numbers = (seen.low, seen.high, seen.clip, seen.tiny)
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        return False
    return seen.low <= seen.high and seen.clip >= 0 and 0 <= seen.tiny <= 1

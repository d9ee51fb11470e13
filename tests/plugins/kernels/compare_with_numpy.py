"""Hold the emulated kernels to the numpy reference of the op table; exits 1 if they differ."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagdeploy.ops import PERFORATED_CONV, Activation, Mode

TYPES = {"float32": 0, "float16": 1}


def _case(rng: np.random.Generator, **changes: Any) -> dict[str, Any]:
    """A case with small defaults; `changes` are attributes of the op and sizes."""
    case: dict[str, Any] = {
        "dtype": "float16",
        "direct": False,
        "n": 1,
        "size": (9, 11),
        "channels": (16, 24),
        "kernel_shape": (3, 3),
        "strides": (1, 1),
        "pads": (1, 1, 1, 1),
        "dilations": (1, 1),
        "group": 1,
        "branch": 1,
        "mode": Mode.REPLACE,
        "activation": Activation.RELU,
        "alpha": 0.125,
        "branches": 2,
        "per_image": False,
        "one_value": False,
    } | changes
    case["rng"] = rng
    return case


def cases() -> list[dict[str, Any]]:
    """Every mode, activation, layout question and type at least once."""
    rng = np.random.default_rng(5)
    wanted: list[dict[str, Any]] = [
        {},
        {"dtype": "float32", "mode": Mode.ADD, "activation": Activation.NONE},
        {"dtype": "float32", "direct": True, "channels": (5, 7)},
        {"channels": (5, 7), "mode": Mode.ADD, "activation": Activation.RELU6},
        {"n": 3, "per_image": True, "activation": Activation.LEAKY_RELU},
        {"n": 2, "strides": (2, 2), "size": (13, 14), "one_value": True},
        {"strides": (2, 1), "pads": (0, 1, 2, 0), "dilations": (1, 2), "kernel_shape": (3, 2)},
        {"channels": (32, 16), "group": 2, "mode": Mode.ADD},
        {"channels": (16, 16), "group": 16, "dtype": "float32"},
        {"kernel_shape": (1, 1), "pads": (0, 0, 0, 0), "branches": 7, "branch": 5},
        {"dilations": (20, 20), "pads": (20, 20, 20, 20)},
        {"one_value": True, "mode": Mode.ADD, "activation": Activation.LEAKY_RELU},
    ]
    return [_case(rng, **changes) for changes in wanted]


def run(program: str, case: dict[str, Any], folder: Path) -> tuple[float, float, str]:
    """The error of one case, its bound, and the kernel that computed it."""
    rng, dtype = case["rng"], np.dtype(case["dtype"])
    (n, (h, w), (c, m)) = (case["n"], case["size"], case["channels"])
    kh, kw = case["kernel_shape"]
    out_h, out_w = (
        (size + case["pads"][i] + case["pads"][i + 2] - case["dilations"][i] * (k - 1) - 1)
        // case["strides"][i]
        + 1
        for i, (size, k) in enumerate(((h, kh), (w, kw)))
    )

    def draw(*shape: int) -> NDArray[Any]:
        return rng.uniform(-1, 1, shape).astype(dtype)

    x, weights, bias = draw(n, c, h, w), draw(m, c // case["group"], kh, kw), draw(m)
    base = draw(1, 1, 1, 1) if case["one_value"] else draw(n, m, out_h, out_w)
    decided = (n, 1, 1, 1) if case["per_image"] else (n, 1, out_h, out_w)
    selection = rng.integers(0, case["branches"], decided, dtype=np.int32)
    names = [attribute.name for attribute in PERFORATED_CONV.attributes]
    attributes = {name: case[name] for name in names}
    expected = PERFORATED_CONV.reference(x, selection, weights, bias, base, **attributes)

    header = (TYPES[case["dtype"]], int(case["direct"]), n, h, w, c, out_h, out_w, m, kh, kw)
    header += (*case["strides"], *case["pads"][:2], *case["dilations"], case["group"])
    header += (case["branch"], int(case["mode"]), int(case["activation"]))
    header += (int(case["per_image"]), int(case["one_value"]))
    arrays = [selection, *(a.transpose(0, 2, 3, 1) for a in (x, weights)), bias]
    arrays.append(base.transpose(0, 2, 3, 1))
    source, target = folder / "case", folder / "output"
    source.write_bytes(
        struct.pack(f"{len(header)}if", *header, case["alpha"])
        + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    )
    answer = subprocess.run(
        [program, str(source), str(target)], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        sys.exit(f"the kernels failed: {answer.stderr}")
    got = np.fromfile(target, dtype).reshape(n, out_h, out_w, m).transpose(0, 3, 1, 2)
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64)).max()
    largest = np.abs(expected.astype(np.float64)).max()
    return difference / largest, PERFORATED_CONV.bounds[case["dtype"]], answer.stdout.strip()


def main() -> None:
    """Run every case through the program named by the first argument."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(cases()):
            error, bound, kernel = run(sys.argv[1], case, Path(folder))
            good = error <= bound  # a NaN is not
            failed += not good
            print(f"{'ok' if good else 'FAIL'} case {i}: {kernel}, error {error:.1e}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Hold gated blocks, lowered for the CPU, to their portable form in stock onnxruntimes.

    python tests/portable/run_lowered.py 1.16.3 1.20.1 1.31.1

Each version runs in an environment of its own with nothing of pagdeploy in it. The cases cross
every form of gathering and both sides of the switch with the masks that have broken runtimes:
empty, one pixel, full. Segmentation-aware convolutions are run in both forms, portable and lowered,
and held to the numpy reference. Prints one line a version; exits 1 if a version fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from pagdeploy.ops import Normalization, Outside
from pagdeploy.ops.seg_aware_conv_reference import seg_aware_conv
from pagdeploy.pipeline import lower
from tests.passes.blocks import Arrays, bottleneck, choosing, expected, lowered
from tests.passes.test_gathering import FORMS, feed_of, pool
from tests.passes.test_keep_channels_last import chain
from tests.portable.run_versions import STOCK, environment
from tests.seg_aware import GEOMETRIES, operands_of, seg_aware_model


def main(versions: list[str]) -> int:
    """Check each version; returns how many failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, (model, feed) in cases():
            onnx.save(lowered(model), folder / f"{case}.onnx")
            np.savez(folder / f"{case}.inputs.npz", **feed)
            answer = {model.graph.output[0].name: expected(model, feed)}
            np.savez(folder / f"{case}.expected.npz", **answer)
        for case, model, feed, y in segmentation_aware():
            onnx.save(model, folder / f"{case}.onnx")
            np.savez(folder / f"{case}.inputs.npz", **feed)
            np.savez(folder / f"{case}.expected.npz", Y=y)
        return sum(not _check(version, folder) for version in versions)


def cases() -> Iterator[tuple[str, tuple[onnx.ModelProto, Arrays]]]:
    """Models and what to feed them, by name."""
    for form, choice in FORMS.items():
        for mask in ("empty", "one", "few", "full"):
            for shape in (("n", "h", "w"), (2, 7, 9)):
                model = choosing(bottleneck(dilation=3, shape=shape), choice)
                yield f"{form}-{mask}-{shape[0]}", (model, feed_of(mask))
    feed = feed_of("empty", channels=3)
    feed["s"] = np.random.default_rng(1).integers(0, 7, feed["s"].shape, np.int32)
    yield "pool", (pool((10, 8, 6, 4, 2, 1, 0)), feed)
    yield "chain", (chain(3), {"x": feed_of("empty", channels=8)["x"]})


def segmentation_aware() -> Iterator[tuple[str, onnx.ModelProto, Arrays, NDArray[Any]]]:
    """Name, model, feed and output of every form of SegAwareConv, in its body and lowered."""
    for number, (name, conv) in enumerate(GEOMETRIES.items()):
        operands = operands_of(conv, np.random.default_rng(number))
        for form in Normalization:
            outside = list(Outside)[(number + int(form)) % len(Outside)]
            choice = {"normalization": int(form), "distance": 1 + number % 2}
            attributes = {**conv.attributes, **choice, "outside": int(outside)}
            y = seg_aware_conv(**operands, **attributes)
            model = seg_aware_model(operands, constants=("W", "B", "hardness"), **attributes)
            feed = {each: operands[each] for each in ("X", "E")}
            case = f"aware-{name}-{form.name}-{outside.name}"
            yield f"{case}-portable", model, feed, y
            yield f"{case}-lowered", lower(model, "dense"), feed, y


def _check(version: str, folder: Path) -> bool:
    python = environment(version, folder / version)
    if python is None:
        print(f"onnxruntime {version}: skipped, the package index has none for this Python")
        return True
    models, faults = sorted(folder.glob("*.onnx")), []
    for model in models:
        files = [model, model.with_suffix(".inputs.npz"), model.with_suffix(".expected.npz")]
        stock = subprocess.run([python, STOCK, *files], capture_output=True, text=True, check=False)
        if stock.returncode:
            faults.append(f"{model.stem}: {stock.stdout}{stock.stderr[-500:]}")
    print(f"onnxruntime {version}: {len(faults)} of {len(models)} lowered blocks are wrong")
    print(*faults, sep="\n", end="\n" if faults else "")
    return not faults


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(min(1, main(sys.argv[1:])))

"""The C++ latency governor on a trained network: does it hold a deadline, and what does that cost?

    python bench/cpp_governor.py EXAMPLES [--frames N] [--lowering L] [--plot FILE] [--json FILE]

EXAMPLES is the folder of the built C++ examples (docs/runtime.md). The network is exported with a
budget input and runs on the demo's photos, which follow each other like the scenes of a video: each
frame governed, and beside that with every pixel computed, as it was trained, and as sparse as the
budget makes it. The deadline lies between the 95th percentiles of the densest and the sparsest.
What the governor's mean budget costs in accuracy is measured on scenes with ground truth.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import pagdeploy
from pagdeploy.examples.rooms.dataset import HELD_OUT_SEEDS, held_out
from pagdeploy.examples.rooms.metrics import (
    boundary_scores,
    depth_scores,
    normal_scores,
    segmentation_scores,
)
from pagdeploy.examples.rooms.model import TASKS, WEIGHTS
from pagdeploy.verbs.demo import IMAGE_SIZE, PHOTOS
from pagdeploy.verbs.inputs import read_image

# Budgets; the governor stays within those of the last two.
FIXED = {"all pixels": -1000.0, "as trained": 0.0, "sparsest": 1.0}
SCENES = HELD_OUT_SEEDS[:60]
SETTLED = 0.5  # of the frames: from there on the governor has found its budget, and is judged


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the video loop: latencies by name in milliseconds, and the governor's budgets."""

    milliseconds: Mapping[str, np.ndarray[Any, Any]]  # (frames,) each
    budget: np.ndarray[Any, Any]  # (frames,)

    @property
    def settled(self) -> slice:
        """The frames that count."""
        return slice(int(len(self.budget) * SETTLED), None)

    def percentile(self, name: str, share: float = 95) -> float:
        """Of a latency, over the frames that count."""
        return float(np.percentile(self.milliseconds[name][self.settled], share))


def video_loop(
    examples: Path, bundle: Path, photos: Sequence[Path], deadline: float, frames: int
) -> Run:
    """Run the example, governed and beside each fixed budget; what it prints as numbers."""
    beside = [part for budget in FIXED.values() for part in ("--beside", str(budget))]
    command = [examples / "video_loop", bundle, deadline, frames, *photos, *beside]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr.strip() or f"video_loop ended with {done.returncode}")
    columns = np.array([line.split() for line in done.stdout.splitlines()], np.float64).T
    return Run(dict(zip(("governed", *FIXED), columns[3:], strict=True)), columns[2])


def prepare(folder: Path, lowering: str) -> tuple[Path, list[Path]]:
    """The bundle, and the demo's photos as PPM."""
    import skimage.data

    photos = []
    for name in PHOTOS:
        photos.append(folder / f"{name}.ppm")
        picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        picture.resize((IMAGE_SIZE[1], IMAGE_SIZE[0]), Image.Resampling.BILINEAR).save(photos[-1])
    pagdeploy.export(
        "pagdeploy.examples.rooms.model:gated",
        folder / "model.onnx",
        weights=WEIGHTS / "gated50.safetensors",
        shapes={"image": (1, 3, *IMAGE_SIZE)},
        budget_input="budget",
    )
    request = {"image": read_image(photos[0]), "budget": np.float32(0)}
    bundle = folder / "model.pagbundle"
    pagdeploy.build(
        folder / "model.onnx", bundle, engine="onnxruntime", lowering=lowering, inputs=request
    )
    return bundle, photos


def accuracy(bundle: Path, budgets: Sequence[float]) -> dict[float, dict[str, float]]:
    """Scores on held-out scenes by budget: one of each task, in its usual unit."""
    session = pagdeploy.load(bundle)
    rooms = held_out(SCENES)
    truth = rooms.batch(np.arange(len(rooms)))
    found = {}
    for budget in budgets:
        parts = [
            session.run({"image": image[None].numpy(), "budget": np.float32(budget)})
            for image in truth.image  # (3, H, W)
        ]
        out = {
            name: torch.from_numpy(np.concatenate([part[name] for part in parts]))
            for name in parts[0]
        }
        classes = out["segmentation"].argmax(1)  # (N, H, W)
        scores: Mapping[str, Mapping[str, float]] = {
            "segmentation": segmentation_scores(classes, truth.classes, TASKS["segmentation"]),
            "boundary": boundary_scores(out["boundary"].sigmoid(), truth.boundary),
            "depth": depth_scores(out["depth"], truth.depth),
            "normals": normal_scores(out["normals"], truth.normals),
        }
        found[budget] = {
            f"{task} {name}": float(value)
            for task, all_of in scores.items()
            for name, value in list(all_of.items())[:1]
        }
    return found


def plot(path: Path, run: Run, deadline: float) -> None:
    """Latency of each frame, with the deadline, above the budget of the governed run."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pagdeploy"})
    from matplotlib import pyplot

    colours = {"all pixels": "#9a9a9a", "as trained": "#5b8fd1", "sparsest": "#74b36b"}
    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(8, 5), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    for name in (*FIXED, "governed"):
        above.plot(
            run.milliseconds[name],
            color=colours.get(name, "#c2452d"),
            linewidth=1.4 if name == "governed" else 0.8,
            label=f"{name}: 95th percentile {run.percentile(name):.1f} ms",
        )
    above.axhline(
        deadline, color="black", linestyle="--", linewidth=1, label=f"deadline {deadline} ms"
    )
    for axes in (above, below):
        axes.axvline(SETTLED * len(run.budget), color="#cccccc", linewidth=0.8)
    highest = max(float(np.percentile(taken, 98)) for taken in run.milliseconds.values())
    above.set(ylabel="latency in ms", ylim=(0, 1.5 * highest))
    above.legend(fontsize=8, loc="upper right", ncols=2)
    below.plot(run.budget, color="#c2452d", linewidth=1.4)
    below.set(xlabel="frame", ylabel="budget")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", type=Path)
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--lowering", default="native")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle, photos = prepare(Path(folder), asked.lowering)

        # The deadline is set by frames that nothing governs.
        first = video_loop(asked.examples, bundle, photos, 1e6, asked.frames // 3)
        bounds = first.percentile("all pixels"), first.percentile("sparsest")
        deadline = round(sum(bounds) / 2, 1)
        run = video_loop(asked.examples, bundle, photos, deadline, asked.frames)
        mean = round(float(run.budget[run.settled].mean()), 3)
        scores = accuracy(bundle, [*FIXED.values(), mean])
    result = {
        "deadline_ms": deadline,
        "p95_ms": {name: round(run.percentile(name), 2) for name in run.milliseconds},
        "p50_ms": {name: round(run.percentile(name, 50), 2) for name in run.milliseconds},
        "late": {
            name: round(float((taken[run.settled] > deadline).mean()), 3)
            for name, taken in run.milliseconds.items()
        },
        "mean_budget": mean,
        "accuracy": {str(budget): scores[budget] for budget in scores},
    }
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if asked.plot:
        plot(asked.plot, run, deadline)


if __name__ == "__main__":
    main()

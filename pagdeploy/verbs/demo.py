"""Demo: the whole road with a trained model, on photos and on scenes that it never saw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.bundle import MODEL, Bundle, open_bundle
from pagdeploy.errors import EnvironmentProblem
from pagdeploy.verbs import Progress, silent

if TYPE_CHECKING:
    from pagdeploy.graph.gates import Gate
    from pagdeploy.report.page import Page

Arrays = Mapping[str, npt.NDArray[Any]]
IMAGE_SIZE = (480, 640)  # (H, W); the network was trained on 96x128 and takes any size
# Photographs in the public domain that scikit-image ships, by the name of its function.
PHOTOS = ("coffee", "astronaut", "chelsea")
SCENES = (900_001, 900_002)  # seeds far from those that were trained or evaluated on
_WRITTEN = ("table.json", "sheet.png", "report.html")
_ROUNDS = 15

COLUMNS = {
    "image": "image",
    "density": "mean density",
    "dense_ms": "dense ms",
    "engine_ms": "engine ms",
    "ratio": "ratio",
    "ceiling": "ratio if only arithmetic counted",
    "flips": "flips",
    "max_error": "max error / scale",
}


@dataclass(frozen=True)
class DemoRow:
    """One image: what was computed, how fast, how exactly.

    Attributes:
        image: Its name.
        density: Mean over the binary gates.
        dense_ms: Median latency of the masked dense export.
        engine_ms: Median latency of the built engine, measured in turn with it.
        ratio: dense_ms / engine_ms.
        ceiling: The ratio of the multiply-adds.
        flips: Decisions that differ from the reference's.
        max_error: Largest scale-free error of an output, with the reference's decisions.
        gate_density: Of each binary gate.
    """

    image: str
    density: float
    dense_ms: float
    engine_ms: float
    ratio: float
    ceiling: float
    flips: int
    max_error: float
    gate_density: list[float]


@dataclass(frozen=True)
class DemoResult:
    """All rows, what was written, and the first failure if there was one."""

    lowering: str
    image_size: tuple[int, int]
    gates: list[str]
    rows: list[DemoRow]
    files: list[Path]
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether every image was verified."""
        return self.reason is None


def demo(output: Path, *, progress: Progress = silent) -> DemoResult:
    """Export the trained model, build, verify and time it on every image, draw the sheet.

    Args:
        output: Folder for model.onnx, model.pagbundle, table.json, sheet.png and report.html; made
            if absent.
        progress: Told of the steps.

    Raises:
        UsageError: the folder cannot be made.
        EnvironmentProblem: a package of the extra `demo` is missing.
    """
    from pagdeploy.files import make_folder, replacing_file
    from pagdeploy.report.page import write_page
    from pagdeploy.verbs.build import build
    from pagdeploy.verbs.export import export
    from pagdeploy.verbs.sheet import draw_sheet

    _require("torch", "skimage", "matplotlib")
    make_folder(output)
    images = dict(_photos()) | dict(_scenes())
    total = 4 + len(images)
    model, bundle_path = output / "model.onnx", output / "model.pagbundle"
    height, width = IMAGE_SIZE

    progress("export the trained model", 1, total)
    export(
        "pagdeploy.examples.rooms.model:gated",
        model,
        weights=_weights("gated50"),
        shapes={"image": (1, 3, height, width)},
    )
    progress("build the engine", 2, total)
    build(model, bundle_path, inputs={"image": next(iter(images.values()))})
    bundle = open_bundle(bundle_path)

    judged = _Judge(bundle)
    rows, outputs = [], {}
    for number, (name, image) in enumerate(images.items()):
        progress(f"verify and time {name}", 3 + number, total)
        row, outputs[name] = judged.judge(name, image)
        rows.append(row)

    progress("draw the sheet", total - 1, total)
    gates = {gate.name: gate.selection for gate in judged.binary}
    result = DemoResult(
        lowering=bundle.manifest.engine.lowering,
        image_size=IMAGE_SIZE,
        gates=list(gates),
        rows=rows,
        files=[model, bundle_path, *(output / name for name in _WRITTEN)],
        reason=judged.reason,
    )
    with replacing_file(output / "table.json") as temporary:
        table = {"lowering": result.lowering, "image_size": IMAGE_SIZE, "gates": list(gates)}
        content = {**table, "rows": [asdict(row) for row in rows], "failure": result.reason}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with replacing_file(output / "sheet.png") as temporary:
        draw_sheet(temporary, images, outputs, gates, judged.pools, *_legends())
    with replacing_file(output / "report.html") as temporary:
        write_page(temporary, demo_page(result, (output / "sheet.png").read_bytes()))
    progress("done", total, total)
    return result


def demo_page(result: DemoResult, sheet: bytes) -> Page:
    """The demo as a report.

    Args:
        result: What was found.
        sheet: The picture, a PNG.
    """
    from pagdeploy.report.html import element, facts, image, paragraph, table
    from pagdeploy.report.page import Page, Section
    from pagdeploy.verbs.versions import versions

    rows = [[getattr(row, column) for column in COLUMNS] for row in result.rows]
    shares = [[row.image, *(round(d, 3) for d in row.gate_density)] for row in result.rows]
    agree = f"All {len(rows)} images verified: the engine computes the function of the reference."
    return Page(
        title="pagdeploy demo",
        lead=result.reason or agree,
        passed=result.passed,
        sections=[
            Section(
                "Images",
                [
                    paragraph(
                        "Dense is the masked dense export that other stacks run. The engine"
                        f" ({result.lowering} lowering) was chosen by timing; a ratio below 1 means"
                        " that it is slower than the dense export."
                    ),
                    table(list(COLUMNS.values()), rows),
                ],
            ),
            Section(
                "Pictures",
                [element("figure", image(sheet, "Predictions, masks and computation per pixel"))],
            ),
            Section("Density per gate", [table(["image", *result.gates], shares)]),
            Section("How to reproduce", [element("pre", "pagdeploy demo"), facts(versions())]),
        ],
    )


class _Judge:
    """Verifies and times the engine on one image after another."""

    def __init__(self, bundle: Bundle) -> None:
        from pagdeploy.engines.ort import OnnxRuntimeEngine
        from pagdeploy.graph.gates import expose, gates_of
        from pagdeploy.graph.read import read_model
        from pagdeploy.pipeline import lower

        portable = self.portable = read_model(bundle.file(MODEL))
        engine = self.engine = read_model(bundle.file(bundle.manifest.engine.file))
        self.reason: str | None = None
        runtime = OnnxRuntimeEngine()
        gates = gates_of(portable)
        shown = expose(engine, [gate.selection for gate in gates])
        self.shown = runtime.load(shown.SerializeToString(), taking_turns=True)
        self.fast = runtime.load(engine.SerializeToString(), taking_turns=True)
        dense = lower(portable, "dense").SerializeToString()
        self.dense = runtime.load(dense, taking_turns=True)
        self.gates = gates
        self.binary: list[Gate] = []
        self.pools: dict[str, str] = {}
        branches = {gate.name: len(gate.density) for gate in bundle.manifest.gates}
        for gate in gates:
            if branches[gate.name] == 2:
                self.binary.append(gate)
            else:
                self.pools[gate.name] = gate.selection

    def judge(
        self, name: str, image: npt.NDArray[np.float32]
    ) -> tuple[DemoRow, dict[str, npt.NDArray[Any]]]:
        """The row of one image, and the engine's outputs and selections."""
        from pagdeploy.graph.cost import count_cost
        from pagdeploy.measure.timing import time_in_turn
        from pagdeploy.verbs.proof import verify_models

        inputs = {"image": image}  # (1, 3, H, W)
        verdict = verify_models(self.portable, self.engine, inputs)
        if verdict.reason is not None and self.reason is None:
            self.reason = f"{name}: {verdict.reason}"
        times = time_in_turn(
            {"dense": lambda: self.dense.run(inputs), "engine": lambda: self.fast.run(inputs)},
            rounds=_ROUNDS,
        )
        density = {gate.name: gate.density for gate in verdict.gates}
        cost = count_cost(
            self.portable,
            {"image": image.shape},
            {gate.selection: density[gate.name] for gate in self.gates},
        )
        computed = [density[gate.name][1] for gate in self.binary]
        dense_ms, engine_ms = times["dense"].median_ms, times["engine"].median_ms
        row = DemoRow(
            image=name,
            density=float(np.mean(computed)),
            dense_ms=dense_ms,
            engine_ms=engine_ms,
            ratio=dense_ms / engine_ms,
            ceiling=cost.ceiling,
            flips=sum(gate.flips for gate in verdict.gates),
            max_error=max(output.error for output in verdict.outputs),
            gate_density=computed,
        )
        return row, self.shown.run(inputs)


def _photos() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    import skimage
    from PIL import Image

    height, width = IMAGE_SIZE
    for name in PHOTOS:
        photo = Image.fromarray(getattr(skimage.data, name)())
        # Resize, then crop: nobody should look squeezed, nor lose the head at the top.
        scale = max(width / photo.width, height / photo.height)
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
        left = (photo.width - width) // 2
        pixels = np.asarray(photo.crop((left, 0, left + width, height)), np.float32) / 255
        yield name, np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])  # (1, 3, H, W)


def _scenes() -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    from pagdeploy.examples.rooms.scenes import render

    for seed in SCENES:
        yield f"scene {seed}", render(seed, *IMAGE_SIZE).image[None]  # (1, 3, H, W)


def _legends() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, and what each branch of a pool does, in the order of the logits."""
    from pagdeploy.examples.rooms.layout import CLASSES
    from pagdeploy.exporters.models.pag_resnet import DILATIONS

    return CLASSES, tuple(f"dilation {d}" if d else "copy" for d in DILATIONS)


def _weights(name: str) -> Path:
    from importlib import resources

    folder = resources.files("pagdeploy.examples.rooms") / "weights"
    return Path(str(folder / f"{name}.safetensors"))


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise EnvironmentProblem.missing_extra(package, "demo", "The demo")

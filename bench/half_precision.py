"""Every network in half precision: built, and verified layer by layer against its float32 self.

    python bench/half_precision.py [--precision fp16 bf16] [--lowering gather dense]
                                   [--only NAME ...] [--models DIR] [--json FILE] [--markdown]

The networks are those of the literature as plain ONNX (`exporters.models.catalogue`), small and
settled to their published densities; the trained ones of the rooms example; and a PAG-ResNet with
random weights. Each is verified as an ONNX file, whose half precision is emulated in float32, and,
in fp16, as a bundle of onnxruntime's CPU, too. A row tells how many decisions there are and flip,
how near to its bound the worst flip, output and layer comes, and the verdict.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pagdeploy.check.compare import Comparison
from pagdeploy.engines import engine_named
from pagdeploy.errors import PagdeployError
from pagdeploy.examples.rooms.model import TARGETS, trained
from pagdeploy.examples.rooms.scenes import render
from pagdeploy.exporters.models.catalogue import SYSTEMS
from pagdeploy.exporters.models.pag_resnet import PAGResNet
from pagdeploy.exporters.modules import PAGGate
from pagdeploy.verbs.build import build
from pagdeploy.verbs.export import export
from pagdeploy.verbs.proof import Verification
from pagdeploy.verbs.verify import verify

OPSET = 18
PRECISIONS = ("fp16", "bf16")
LOWERINGS = ("gather", "dense")
IMAGES = 2
SCENE = (64, 80)  # rows and columns
Feeds = Mapping[str, "np.ndarray[Any, Any]"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One network in one form; see the module.

    Attributes:
        network: Its name.
        form: Precision, lowering, and "bundle" if it was built.
        passed: The verdict.
        decisions: Of all gates, on the inputs.
        flips: With all earlier gates forced to the reference's.
        unexplained: Of these.
        margin: The largest margin of a flip over its bound.
        output: The largest error of an output over its bound, or of a root mean square.
        layers: That were judged.
        layer: The largest error of a layer on the reference's inputs over its bound.
        nodes: Of that layer.
        reason: Why it did not pass.
    """

    network: str
    form: str
    passed: bool = False
    decisions: int = 0
    flips: int = 0
    unexplained: int = 0
    margin: float = 0.0
    output: float = 0.0
    layers: int = 0
    layer: float = 0.0
    nodes: str = ""
    reason: str = ""


def main() -> int:
    """Verify; returns how many rows did not pass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=PRECISIONS)
    parser.add_argument("--lowering", choices=LOWERINGS, nargs="+", default=LOWERINGS)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="names of networks")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where exports are kept")
    parser.add_argument("--json", type=Path, help="where the rows are written, too")
    parser.add_argument("--markdown", action="store_true", help="print a table for the docs")
    arguments = parser.parse_args()
    if unknown := set(arguments.only or ()) - set(NETWORKS):
        parser.error(f"no network is called {sorted(unknown)[0]!r}: {', '.join(NETWORKS)}")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.models or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.only or NETWORKS:
            found = []
            for row in rows_of(name, folder, arguments.precision, arguments.lowering):
                found.append(row)
                if not arguments.markdown:
                    print(line(row), flush=True)
            if arguments.markdown:
                print(summary(found), flush=True)
            rows += found
    if arguments.json is not None:
        text = json.dumps([dataclasses.asdict(row) for row in rows], indent=1)
        arguments.json.write_text(text + "\n")
    return sum(not row.passed for row in rows)


def rows_of(
    name: str, folder: Path, precisions: Sequence[str], lowerings: Sequence[str]
) -> Iterator[Row]:
    """Verify one network in every form that is asked for.

    Args:
        name: A key of `NETWORKS`.
        folder: Where its export is, or is put.
        precisions: Of PRECISIONS.
        lowerings: Of LOWERINGS.
    """
    path, inputs = exported(name, folder)
    for precision in precisions:
        for lowering in lowerings:
            form = f"{precision}, {lowering}"
            yield _row(name, form, lambda p=precision, w=lowering: verify(
                path, inputs=inputs, precision=p, lowering=w, layers=True))  # fmt: skip
            if precision not in engine_named("onnxruntime").precisions:
                continue
            with tempfile.TemporaryDirectory() as place:
                yield _row(name, f"{form}, bundle", lambda p=precision, w=lowering, f=place: _built(
                    path, inputs, p, w, Path(f) / "m.pagbundle"))  # fmt: skip


def _built(path: Path, inputs: Feeds, precision: str, lowering: str, bundle: Path) -> Verification:
    build(path, bundle, engine="onnxruntime", lowering=lowering, precision=precision, inputs=inputs)
    return verify(bundle, layers=True)


def _row(name: str, form: str, run: Callable[[], Verification]) -> Row:
    try:
        found = run()
    except PagdeployError as problem:
        return Row(name, form, reason=problem.message)
    worst = max(found.layers, key=lambda layer: _share(layer.own))
    return Row(
        name,
        form,
        passed=found.passed,
        decisions=sum(gate.pixels for gate in found.gates),
        flips=sum(gate.forced_flips for gate in found.gates),
        unexplained=sum(gate.unexplained for gate in found.gates),
        margin=max((g.worst_margin / g.margin_bound for g in found.gates if g.flips), default=0.0),
        output=max(map(_share, (*found.outputs, *found.branches))),
        layers=len(found.layers),
        layer=_share(worst.own),
        nodes=", ".join(worst.nodes),
        reason=found.reason or "",
    )


def _share(compared: Comparison) -> float:
    return max(compared.error / compared.bound, compared.rms / compared.rms_bound)


def exported(name: str, folder: Path) -> tuple[Path, Feeds]:
    """The network as an ONNX file, and inputs for it; taken from the folder if they are there."""
    stem = "".join(c if c.isalnum() else "-" for c in name)
    path, given = folder / f"{stem}.onnx", folder / f"{stem}.npz"
    if not given.exists():
        np.savez(given, **NETWORKS[name](path))
    with np.load(given) as arrays:
        return path, dict(arrays)


def _system(index: int, path: Path) -> Feeds:
    """As its authors' users would export it: torch.onnx, none of our modules."""
    system = SYSTEMS[index]
    torch.manual_seed(0)
    inputs = system.inputs(IMAGES, system.size)
    names = [f"in{number}" for number in range(len(inputs))]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(system.factory(), inputs, path, opset_version=OPSET, dynamo=True,
                          input_names=names, external_data=False, verbose=False)  # fmt: skip
    return _feeds(names, inputs)


def _rooms(name: str, path: Path) -> Feeds:
    return _ours(trained(name), path)


def _random(path: Path) -> Feeds:
    """With norms and gates that do something, so that each branch is taken somewhere."""
    torch.manual_seed(0)
    network = PAGResNet((1, 1, 1, 2), 4, {"depth": 1, "normals": 3}, norm="cha_atten", blur=True)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3)
        elif name.endswith(("running_var", "running_sigma")):
            buffer.uniform_(0.5, 1.5)
    for gate in (module for module in network.modules() if isinstance(module, PAGGate)):
        last = gate.head if isinstance(gate.head, nn.Conv2d) else gate.head[-1]
        nn.init.normal_(last.weight)
        nn.init.zeros_(last.bias)
    return _ours(network.eval(), path)


def _ours(network: nn.Module, path: Path) -> Feeds:
    export(network, path, shapes={"image": (IMAGES, 3, *SCENE)})
    scenes = [render(900_500 + number, *SCENE).image for number in range(IMAGES)]
    return {"image": np.stack(scenes).astype(np.float32)}


def _feeds(names: list[str], inputs: tuple[Tensor, ...]) -> Feeds:
    return {name: array.numpy() for name, array in zip(names, inputs, strict=True)}


NETWORKS: dict[str, Callable[[Path], Feeds]] = {
    **{system.name: lambda path, i=i: _system(i, path) for i, system in enumerate(SYSTEMS)},
    **{f"rooms, {name}": lambda path, name=name: _rooms(name, path) for name in TARGETS},
    "PAG-ResNet": _random,
}


def line(row: Row) -> str:
    """The row as text."""
    cells = [
        row.network, row.form, f"{row.decisions:,}", str(row.flips), str(row.unexplained),
        f"{row.margin:.2f}", f"{row.output:.2f}", str(row.layers), f"{row.layer:.2f}",
        "yes" if row.passed else f"NO {row.reason}", row.nodes,
    ]  # fmt: skip
    return "  ".join(cells)


def summary(rows: Sequence[Row]) -> str:
    """The rows of one network as one line of a table: the worst of each, flips by precision."""
    flips = [
        str(max((row.flips for row in rows if row.form.startswith(name)), default="-"))
        for name in PRECISIONS
    ]
    failed = next((row for row in rows if not row.passed), None)
    cells = [
        rows[0].network,
        f"{rows[0].decisions:,}",
        *flips,
        str(sum(row.unexplained for row in rows)),
        f"{max(row.margin for row in rows):.2f}",
        f"{max(row.output for row in rows):.2f}",
        str(max(row.layers for row in rows)),
        f"{max(row.layer for row in rows):.2f}",
        "yes" if failed is None else f"NO {failed.form}: {failed.reason}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

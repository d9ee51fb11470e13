"""Hold the trained model, in stock onnxruntime of several versions, to PyTorch.

    python run_versions.py 1.16.3 1.20.1 1.31.1

For each version it makes an environment with nothing but numpy and that onnxruntime in it, runs
`run_stock.py` there, and compares what comes back with the PyTorch model: every decision must be
the same, or undecided in PyTorch itself; where all decisions are, outputs may differ by 1e-4 of
their scale. Prints one line a version; exits 1 if a version fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.check.gates import compare_gate
from pagdeploy.examples.rooms.model import trained
from pagdeploy.examples.rooms.scenes import render
from pagdeploy.exporters.from_torch import export
from pagdeploy.exporters.modules import PAGGate
from pagdeploy.graph.gates import Gate, expose, gates_of

STOCK = Path(__file__).with_name("run_stock.py")
SEEDS = (900_011, 900_012)
SIZE = (96, 128)  # (H, W)

Arrays = dict[str, npt.NDArray[np.generic]]


def main(versions: list[str]) -> int:
    """Check each version; returns how many failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.stack([render(seed, *SIZE).image for seed in SEEDS])  # (N, 3, H, W)
        model = trained("gated50")
        portable = export(model, (torch.from_numpy(images),), None, output_names=list(model.tasks))
        gates = gates_of(portable)
        shown = expose(portable, [v for gate in gates for v in (gate.logits, gate.selection)])
        onnx.save(shown, folder / "m.onnx")
        np.savez(folder / "inputs.npz", image=images)
        expected = _torch_outputs(model, images, gates)
        np.savez(folder / "expected.npz", **expected)
        failures = [v for v in versions if not _check(v, folder, expected, gates)]
    return len(failures)


def _torch_outputs(model: torch.nn.Module, images: Arrays, gates: list[Gate]) -> Arrays:
    """Outputs by task, logits and selections by the names that the export gave them."""
    outputs: Arrays = {}
    names = {gate.name: gate for gate in gates}

    def keep(gate: Gate) -> None:
        module = model.get_submodule(gate.name)
        assert isinstance(module, PAGGate)
        module.head.register_forward_hook(
            lambda _m, _i, logits: outputs.__setitem__(gate.logits, logits.numpy())
        )
        module.register_forward_hook(
            lambda _m, _i, selection: outputs.__setitem__(gate.selection, selection.numpy())
        )

    for gate in names.values():
        keep(gate)
    with torch.no_grad():
        answers = model(torch.from_numpy(images))
    return outputs | {t: a.numpy() for t, a in zip(model.tasks, answers, strict=True)}


def _check(version: str, folder: Path, expected: Arrays, gates: list[Gate]) -> bool:
    python = environment(version, folder / version)
    if python is None:
        here = ".".join(map(str, sys.version_info[:2]))
        print(f"onnxruntime {version}: skipped, the package index has none for Python {here}")
        return True
    answers = folder / f"{version}.npz"
    files = [folder / name for name in ("m.onnx", "inputs.npz", "expected.npz")]
    stock = subprocess.run([python, STOCK, *files, answers], capture_output=True, text=True)
    if not answers.is_file():
        print(f"onnxruntime {version}: FAILED\n{stock.stdout}{stock.stderr}")
        return False
    with np.load(answers) as archive:
        actual = {name: archive[name] for name in archive.files}
    flips = unexplained = 0
    for gate in gates:
        chosen = actual[gate.selection]
        judged = compare_gate(
            gate.name, expected[gate.logits], expected[gate.selection], chosen, chosen
        )
        flips, unexplained = flips + judged.flips, unexplained + judged.unexplained
    outputs = [n for n in expected if n not in {v for g in gates for v in (g.logits, g.selection)}]
    bound = NETWORK_BOUNDS["fp32"]
    worst = max(compare(n, actual[n], expected[n], bound).error for n in outputs)
    # One flip changes what lies behind it; only without any can the numbers be held to the bound.
    passed = unexplained == 0 and (flips > 0 or worst <= bound)
    print(
        f"onnxruntime {version}: {flips} flips, {unexplained} unexplained,"
        f" largest error {worst:.1e} of scale: {'ok' if passed else 'FAILED'}"
    )
    return passed


def environment(version: str, folder: Path) -> Path | None:
    """An environment of its own, so that nothing of pagdeploy can help; None if none can be."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    numpy = "numpy<2" if tuple(map(int, version.split("."))) < (1, 19) else "numpy"
    pip = [python, "-m", "pip", "install", "--quiet", f"onnxruntime=={version}", numpy]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr:
        return None
    done.check_returncode()
    return python


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(min(1, main(sys.argv[1:])))

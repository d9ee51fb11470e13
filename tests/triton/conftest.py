"""Where tests find Triton's schema and server, and bundles of every kind; none is required."""

from __future__ import annotations

import importlib.util
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import onnx.parser
import pytest

from pagdeploy.bundle import seal
from pagdeploy.manifest import Manifest, PlanInfo
from pagdeploy.verbs.build import build

ROOT = Path(__file__).parents[2]
AUTOREG = "libpagdeploy_plugins_autoreg_trt10.so"


def wheel(name: str) -> Path:
    """The folder of a wheel that install_wheels.py made, or skip."""
    given = os.environ.get("PAGDEPLOY_TRITON_WHEELS")
    folder = (Path(given) if given else ROOT / "build" / "triton-wheels") / name
    if not folder.is_dir():
        pytest.skip(f"no Triton {name}: run tests/triton/install_wheels.py")
    return folder


@pytest.fixture(scope="session")
def schema() -> ModuleType:
    """Triton's messages. The file is taken alone: the package around it would load gRPC."""
    path = wheel("client") / "tritonclient" / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(bundle: Path) -> Manifest:
    """The manifest of a bundle, whatever its files now are."""
    return Manifest.model_validate_json((bundle / "manifest.json").read_text())


def reseal(bundle: Path, **changes: Any) -> Path:
    """Change fields of the manifest, as if the bundle had been built so."""
    seal(bundle, text_of(bundle).model_copy(update=changes))
    return bundle


def as_plan(bundle: Path, shapes: list[int | str] | None = None, **plan: Any) -> Path:
    """Make a bundle of a TensorRT plan; nothing here loads it.

    Args:
        bundle: To be changed.
        shapes: The first, third and fourth size of input and output; dynamic if not given.
        plan: Fields of its PlanInfo; a library that is named there is made.
    """
    (bundle / "engine.onnx").unlink()
    rest = bytes(range(256))  # behind a header as in engines/nvidia/plan.py
    header = struct.pack("<4sI Q Q 4B 8x", b"ftrt", 0, 1, 36 + len(rest), 10, 16, 1, 11)
    (bundle / "engine.plan").write_bytes(header + rest)
    (bundle / "plugins").mkdir()
    for file in plan.get("plugins", ()):
        (bundle / file).write_bytes(b"\x7fELF " + file.encode())
    manifest = text_of(bundle)
    n, h, w = shapes or ("image.0", "image.2", "image.3")
    bounds = {"min": [1, 3, 8, 8], "opt": [1, 3, 20, 24], "max": [8, 3, 64, 64]}
    plan.setdefault("profiles", [{"image": bounds}])
    engine = manifest.engine.model_copy(
        update={
            "flavour": "tensorrt",
            "version": "10.16.1.11",
            "file": "engine.plan",
            "lowering": "plugin",
            "plan": PlanInfo.model_validate(plan),
        }
    )
    host = manifest.host.model_copy(update={"compute_capability": "8.9"})
    tensors = {
        kind: [t.model_copy(update={"shape": [n, t.shape[1], h, w]}) for t in listed]
        for kind, listed in (("inputs", manifest.inputs), ("outputs", manifest.outputs))
    }
    return reseal(bundle, engine=engine, host=host, **tensors)


def built(tmp_path: Path, text: str, rename: Mapping[str, str] | None = None) -> Path:
    """A bundle for onnxruntime, built from a model in ONNX's text syntax.

    Args:
        tmp_path: Where it is made.
        text: Of the model.
        rename: Names that the syntax cannot spell, by those to be replaced.
    """
    model = onnx.parser.parse_model(text)
    names = rename or {}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return build(tmp_path / "model.onnx", tmp_path / "b.pagbundle", lowering="dense").path


@pytest.fixture
def autoreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library that registers our plugins is looked for; it is there."""
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / AUTOREG).write_bytes(b"\x7fELF registers")
    monkeypatch.setenv("PAGDEPLOY_PLUGINS", str(folder))
    return folder

"""The TensorRT back end with real lean runtimes and no GPU: it refuses, and the process lives."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

import pytest

from pagdeploy.bundle import MANIFEST, MODEL, SAMPLE_INPUTS, SAMPLE_OUTPUTS
from pagdeploy.engines.nvidia.driver import why_no_gpu
from pagdeploy.files import sha256_of
from pagdeploy.manifest import UNSEALED, digest_of
from tests.plugins.conftest import ROOT, wheels
from tests.runtime.conftest import checked

pytestmark = pytest.mark.trt

USAGE, ENVIRONMENT, INCOMPATIBLE = 2, 3, 4

# In a process of its own: TensorRT may end it, which is what must not happen.
PROGRAM = """
import ctypes, json, sys

class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("backend_directory", ctypes.c_char_p),
                ("runtime_library", ctypes.c_char_p), ("device", ctypes.c_int32),
                ("threads", ctypes.c_int32), ("allow_host_code", ctypes.c_int32),
                ("log", ctypes.c_void_p), ("log_user", ctypes.c_void_p)]

runtime, backends, tensorrt, consent, *bundles = sys.argv[1:]
library = ctypes.CDLL(runtime)
library.pag_message.restype = ctypes.c_char_p
options = Options(ctypes.sizeof(Options), backends.encode(), tensorrt.encode(), 0, 0, int(consent))
seen = []
for path in bundles:
    bundle, engine = ctypes.c_void_p(), ctypes.c_void_p()
    status = library.pag_bundle_open(path.encode(), ctypes.byref(bundle))
    if status == 0:
        status = library.pag_engine_create(bundle, ctypes.byref(options), ctypes.byref(engine))
    assert not engine
    seen.append([status, library.pag_message().decode()])
print(json.dumps(seen))
"""


def built(major: int) -> Path:
    """The folder of the runtime with a back end for that TensorRT below build/, or a skip."""
    name = f"libpagdeploy_backend_tensorrt{major}.so"
    given = os.environ.get("PAGDEPLOY_RUNTIME")
    found = list((Path(given) if given else ROOT / "build").glob(f"**/{name}"))
    if not found:
        pytest.skip(f"no {name} below build/: needs TensorRT headers and the CUDA toolkit")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def write_bundle(
    folder: Path, version: tuple[int, ...], *, size: int | None = None, **plan: bool
) -> Path:
    """A sealed bundle whose plan is nothing but the header of that version."""
    folder.mkdir()
    header = bytearray(36)
    header[:4] = b"ftrt"
    header[16:24] = (36 if size is None else size).to_bytes(8, "little")
    header[24:28] = bytes(version)
    (folder / "engine.plan").write_bytes(header)
    (folder / "sample").mkdir()
    for name in (MODEL, SAMPLE_INPUTS, SAMPLE_OUTPUTS):  # which the runtime only hashes
        (folder / name).touch()
    text = json.dumps(
        {
            "format": "pagbundle",
            "format_version": 3,
            "pagdeploy_version": "0.1.0",
            "host": {"system": "Linux", "machine": "x86_64", "python": "3.11.2"},
            "source_sha256": "",
            "ops": [],
            "engine": {
                "flavour": "tensorrt",
                "version": ".".join(map(str, version[:3])),
                "file": "engine.plan",
                "lowering": "plugin",
                "precision": "fp32",
                "plan": {"profiles": [], **plan},
            },
            "inputs": [],
            "outputs": [],
            "gates": [],
            "files": {
                name: sha256_of(folder / name)
                for name in ("engine.plan", MODEL, SAMPLE_INPUTS, SAMPLE_OUTPUTS)
            },
            "digest": UNSEALED,
        }
    ).encode()
    sealed = text.replace(UNSEALED.encode(), digest_of(text, UNSEALED).encode())
    (folder / MANIFEST).write_bytes(sealed)
    return folder


@pytest.mark.parametrize("major", [10, 11])
def test_says_why_a_plan_does_not_run_here(major: int, tmp_path: Path) -> None:
    if why_no_gpu() is None:
        pytest.skip("there is a GPU")
    runtimes = wheels(f"lean{major}")
    library = runtimes / f"tensorrt_lean_libs/libnvinfer_lean.so.{major}"
    folder = built(major)
    number = ctypes.CDLL(str(library)).getInferLibVersion()
    version = (number // 10000, number % 10000 // 100, number % 100, 0)
    older = (major, 0, 0, 1)
    bundles = [
        write_bundle(tmp_path / "fits", version),
        write_bundle(tmp_path / "older", older),
        write_bundle(tmp_path / "cut", version, size=99),
        write_bundle(tmp_path / "travels", older, version_compatible=True),
    ]
    seen = []
    for consent in ("0", "1"):
        where = (folder / "libpagdeploy_runtime.so", folder, library, consent)
        seen.append(json.loads(checked(sys.executable, "-c", PROGRAM, *where, *bundles)))
    no_gpu = [ENVIRONMENT, "The plan needs an NVIDIA GPU, and there is no number 0 here."]
    name = ".".join(map(str, version[:3]))
    refused = [
        no_gpu,
        [
            INCOMPATIBLE,
            f"The plan was built with TensorRT {major}.0.0.1, and {name} is installed.",
        ],
        [
            INCOMPATIBLE,
            "The bundle's plan is truncated, or has something behind its end.",
        ],
    ]
    unasked = "The plan is version-compatible: it holds code that would run in this process."
    assert seen == [[*refused, [USAGE, unasked]], [*refused, no_gpu]]

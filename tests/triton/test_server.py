"""A real Triton server reads what we write: with a backend it serves it, without one it says so.

The wheel's server has no backend for our models. Where PAGDEPLOY_TRITON_BACKENDS names a folder of
backends with onnxruntime among them, such as /opt/tritonserver/backends of NVIDIA's image, models
are served, too.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pagdeploy.bundle import open_bundle
from pagdeploy.verbs.triton import TritonModel, bundle_triton
from tests.triton.conftest import as_plan, built, wheel
from tests.triton.test_config import BUDGET, TWO

PATIENCE = 60.0  # seconds


class Server:
    """A running server.

    Attributes:
        process: Of the server.
        log: What it says.
        address: Of its models.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.address = f"http://127.0.0.1:{port}/v2/models"


@contextmanager
def server(model: TritonModel, backends: Path, log: Path) -> Iterator[Server]:
    """Start a server by the command that we print."""
    program = wheel("server") / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--http-address=127.0.0.1 --http-port={port} --allow-grpc=0 --allow-metrics=0"
    command = model.command.replace(
        "tritonserver", f"exec '{program}' --backend-directory='{backends}' {options}", 1
    )
    with log.open("wb") as out:
        process = subprocess.Popen(["sh", "-c", command], stdout=out, stderr=out)
    try:
        yield Server(process, log, port)
    finally:
        process.kill()
        process.wait()


def test_a_server_accepts_the_configurations(bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    bundle_triton(bundle, models, name="onnx")
    bundle_triton(bundle, models, name="broken")
    broken = models / "broken/config.pbtxt"
    broken.write_text(broken.read_text().replace("TYPE_FP32", "TYPE_FP99"))
    last = bundle_triton(as_plan(bundle, version_compatible=True), models, name="plan")
    none_of_ours = wheel("server") / "pytriton" / "tritonserver" / "backends"
    with server(last, none_of_ours, tmp_path / "log") as running:
        running.process.wait(timeout=PATIENCE)
    log = running.log.read_text()
    failures = dict(re.findall(r"failed to load '(\w+)' version 1: (.*?)[,\"]", log))
    missing = "Invalid argument: unable to find backend library for backend"
    assert failures == {"onnx": f"{missing} 'onnxruntime'", "plan": f"{missing} 'tensorrt'"}, log
    assert "TYPE_FP99" in log, "a configuration that is wrong fails earlier, and otherwise"


def backends() -> Path:
    """A folder of backends with onnxruntime among them, or skip."""
    given = os.environ.get("PAGDEPLOY_TRITON_BACKENDS")
    if not given:
        pytest.skip("PAGDEPLOY_TRITON_BACKENDS names no folder of Triton backends")
    return Path(given)


@pytest.mark.parametrize("lowering", ["dense", "gather"])
def test_a_server_answers_as_the_reference_does(
    lowering: str, bundle: Path, gather_bundle: Path, tmp_path: Path
) -> None:
    opened = open_bundle(bundle if lowering == "dense" else gather_bundle)
    image = opened.arrays("sample/inputs.npz")["image"]
    y = opened.arrays("sample/outputs.npz")["y"]
    model = bundle_triton(opened.path, tmp_path / "models", name="gated")
    with server(model, backends(), tmp_path / "log") as running:
        wait_for(running, "gated")
        address = f"{running.address}/gated/infer"
        for batch in (1, 3, model.max_batch_size):
            answer = infer(address, np.repeat(image, batch, 0))
            np.testing.assert_allclose(answer, np.repeat(y, batch, 0), rtol=1e-4, atol=1e-5)
        with pytest.raises(urllib.error.HTTPError, match="400") as refusal:
            infer(address, np.repeat(image, model.max_batch_size + 1, 0))
        refusal.value.close()


def test_a_server_warms_up_several_inputs_odd_names_and_scalars(tmp_path: Path) -> None:
    models = tmp_path / "models"
    odd = {"image": 'a "b"\\n/c', "mask": "a__b__n_c", "y": "tiefe ü"}
    bundle_triton(built(tmp_path, TWO, odd), models, name="two", instances=2)
    last = bundle_triton(built(tmp_path, BUDGET), models, name="budget")
    with server(last, backends(), tmp_path / "log") as running:
        wait_for(running, "two")
        wait_for(running, "budget")


def wait_for(running: Server, model: str) -> None:
    """Return when the model is ready; fail with the server's log if the server ends before."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and running.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{running.address}/{model}/ready", timeout=5):
                return
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(running.log.read_text())


def infer(address: str, image: np.ndarray) -> np.ndarray:
    """Ask for y; tensors cross as bytes behind the JSON."""
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(image.shape),
        "parameters": {"binary_data_size": image.nbytes},
    }
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    field = "Inference-Header-Content-Length"
    request = urllib.request.Request(
        address, data=header + image.tobytes(), headers={field: str(len(header))}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        body, length = response.read(), int(response.headers[field])
    shape = json.loads(body[:length])["outputs"][0]["shape"]
    return np.frombuffer(body[length:], np.float32).reshape(shape)

"""Plans that TensorRT-RTX builds on this machine, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.conftest import child as child  # a fixture
from tests.plugins.conftest import wheels

# trt.Runtime ends the process without a GPU; a builder does not.
_BUILD = """
import sys
import tensorrt_rtx_bindings as trt

for name, *targets in (entry.split(",") for entry in sys.argv[2:]):
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    x = network.add_input("x", trt.float32, (1, 3, 8, 8))
    network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, target), index)
    with open(f"{sys.argv[1]}/{name}", "wb") as stream:
        stream.write(builder.build_serialized_network(network, config))
"""
PLANS = {
    "sm75.plan": ["SM75"],
    "sm80.plan": ["SM80"],
    "sm86.plan": ["SM86"],
    "sm89.plan": ["SM89"],
    "sm120.plan": ["SM120"],
    "sm121.plan": ["SM121"],
    "several.plan": ["SM86", "SM120"],
}


@pytest.fixture(scope="session")
def rtx_plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plans of PLANS; not to be changed."""
    packages, folder = wheels("rtx"), tmp_path_factory.mktemp("plans")
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(folder), *(",".join((n, *t)) for n, t in PLANS.items())],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )
    assert done.returncode == 0, done.stderr
    return folder

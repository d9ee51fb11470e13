"""The command in a process of its own: exit codes, signals, and how soon it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.cli.test_commands import ROOT


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    line = [sys.executable, "-m", "pagdeploy", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_real_process_keeps_to_the_exit_codes(bundle, tmp_path):
    for code, arguments in ((4, ["inspect", __file__]), (2, ["fly"])):
        done = command(*arguments)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    content = bytearray((bundle / "engine.onnx").read_bytes())
    content[0] ^= 1
    (bundle / "engine.onnx").write_bytes(content)
    done = command("verify", bundle)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") <= 2 and "error: " in done.stderr


SLOW_BUILD = """
import sys, time
from pagdeploy.verbs import build

def fill(folder, *rest):
    (folder / "half").write_text("of it")
    print("ready", flush=True)
    time.sleep(60)

build._fill = fill
from pagdeploy.cli import main
sys.argv = ["pagdeploy", "build", "m.onnx", "-o", sys.argv[1]]
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without telling it")
def test_a_build_that_is_terminated_leaves_nothing_behind(tmp_path):
    line = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "m.pagbundle")]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert list(tmp_path.iterdir()), "the build has begun"
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and "Traceback" not in err, err
    assert list(tmp_path.iterdir()) == []


def test_importing_the_command_line_loads_nothing_heavy():
    code = (
        "import sys, pagdeploy.cli\n"
        "heavy = 'torch onnx onnx_ir onnxruntime onnxscript numpy PIL pydantic'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_answers_in_half_a_second():
    times = []
    for _ in range(5):
        begin = os.times()
        start = time.perf_counter()
        done = command("--help")
        elapsed = time.perf_counter() - start
        end = os.times()
        assert done.returncode == 0 and "inspect" in done.stdout
        # On a busy machine the process waits for its turn; its own work is what counts.
        worked = (
            end.children_user + end.children_system - begin.children_user - begin.children_system
        )
        times.append(min(elapsed, worked))
        if times[-1] < 0.5:
            break
    assert min(times) < 0.5

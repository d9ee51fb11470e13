"""The road through TensorRT on a GPU: build, verify, profile, capture, and time beside dense.

    python bench/gpu/tensorrt_road.py prepare --out DIR     where pagdeploy and torch are installed
    python bench/gpu/tensorrt_road.py run DIR --json R.json on the GPU machine: numpy and onnx only
    python bench/gpu/tensorrt_road.py report R.json...      the tables for docs/results/gpu.md

`prepare` writes models, inputs and the reference outputs of onnxruntime; weights of large networks
are made from a seed on both sides. `run` goes through its stages, each in a process of its own with
its own time limit, and writes results after each. Without a GPU every stage says so and the exit
code is 77. `run --self-check` needs no GPU: it makes the weights, plants faults that the comparison
must find, and goes through all stages with onnxruntime in TensorRT's place.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NO_DEVICE = 77
GROUPS = ["tiny", "trained", "resnet50"]
PRECISIONS = ["fp32", "fp16"]
RUNNER = "trt_runner"
REHEARSABLE_MACS = 5e9
"""Dense multiply-adds of a network that onnxruntime runs in a second or so."""


def has_device() -> bool:
    """Whether the CUDA driver is there and names a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return False
    return count.value > 0


def prepare(options: argparse.Namespace) -> int:
    """Write the folder that travels."""
    from road.prepare import compile_runner, megabytes
    from road.prepare import prepare as write

    write(options.out, options.cases, options.precisions, options.small)
    if options.headers is not None:
        compile_runner(options.out, options.headers)
    if options.plugins is not None:
        shutil.copy(options.plugins, options.out)
    print(f"{options.out}: {megabytes(options.out)} MB")
    return 0


def run(options: argparse.Namespace) -> int:
    """Run the stages as children, or one of them in this process."""
    from road.stages import STAGES

    chosen = options.stages or list(STAGES)
    if unknown := sorted(set(chosen) - set(STAGES)):
        print(f"there is no stage {unknown[0]}; the stages are {', '.join(STAGES)}")
        return 2
    if not options.self_check and not has_device():
        for stage in chosen:
            print(f"{stage}: skipped: no CUDA device")
        return NO_DEVICE
    if options.in_process:
        return _run_stage(options, chosen[0])
    if not options.self_check and (missing := _complete(options)):
        print(missing)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        if options.work is None:
            options.work = Path(scratch) if options.self_check else options.folder / "work"
        failed = _check_by_itself(options) if options.self_check else 0
        for stage in chosen:
            failed += _run_child(options, stage, STAGES[stage][1])
    if options.json is not None:
        report(argparse.Namespace(results=[options.json]))
    return 1 if failed else 0


def _complete(options: argparse.Namespace) -> str | None:
    """Find the runner and the plugin library in the folder; what is missing, if anything."""
    beside = sorted(options.folder.glob("libpagdeploy_plugins_trt*.so"))
    options.plugins = options.plugins or (beside[0] if beside else None)
    options.runner = options.runner or options.folder / RUNNER
    if options.plugins is None:
        return f"there is no plugin library in {options.folder}; name one by --plugins"
    for path in (options.plugins, options.runner):
        if not path.is_file():
            return f"there is no {path}"
    if options.runner.suffix != ".py" and not os.access(options.runner, os.X_OK):
        options.runner.chmod(0o755)  # some ways of copying forget it
    return None


def _run_child(options: argparse.Namespace, stage: str, limit: float) -> bool:
    """One stage in a process of its own; returns whether it failed."""
    command = [sys.executable, __file__, "run", str(options.folder), "--in-process"]
    command += ["--stages", stage, "--work", str(options.work)]
    for name in ("json", "log", "runner", "plugins", "libraries"):
        value = getattr(options, name)
        command += [f"--{name}", str(value)] if value is not None else []
    command += ["--self-check"] if options.self_check else []
    print(f"{stage}:", flush=True)
    started = time.monotonic()
    child = subprocess.Popen(command, start_new_session=True)
    try:
        code = child.wait(timeout=limit)
        verdict = "ok" if code == 0 else f"failed ({code})"
    except subprocess.TimeoutExpired:
        code, verdict = 124, f"failed: more than {limit:.0f} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # its runner too, which would keep the GPU busy
            child.wait()
    print(f"{stage}: {verdict}, {time.monotonic() - started:.1f} s", flush=True)
    return code != 0


def _run_stage(options: argparse.Namespace, stage: str) -> int:
    from road.cases import read_cases
    from road.stages import STAGES
    from road.workplace import Runner, RunnerFailure, Workplace

    cases = read_cases(options.folder)
    if options.self_check:
        runner = Runner(Path(__file__).with_name("road") / "stand_in.py", Path("no library"))
        cases = [case for case in cases if _cheap(case)]
    else:
        program, library = options.runner.resolve(), options.plugins.resolve()
        runner = Runner(program, library, options.libraries, log=options.log)
    place = Workplace(options.folder, options.work, runner, cases)
    place.on_row = lambda rows: _store(options, stage, {"rows": rows, "reason": "not finished"})
    place.on_row([])
    started = time.monotonic()
    result: dict[str, Any] = {}
    try:
        result = STAGES[stage][0](place) or {}
    except RunnerFailure as failure:
        print(f"  FAILED: {failure}")
        result["reason"] = str(failure)
    failed = sum(bool(row["failures"]) for row in place.rows) + ("reason" in result)
    result |= {"rows": place.rows, "failed": failed, "built": place.build_seconds}
    result["seconds"] = round(time.monotonic() - started, 1)
    _store(options, stage, result)
    return 1 if failed else 0


def _cheap(case: Any) -> bool:
    return all(feed.macs["dense"] < REHEARSABLE_MACS for feed in case.feeds)


def _check_by_itself(options: argparse.Namespace) -> int:
    from road.cases import read_cases
    from road.self_check import check_comparison, check_weights

    cases = read_cases(options.folder)
    failures = [*check_weights(options.folder, cases), *check_comparison(options.folder, cases)]
    for failure in failures:
        print(f"  FAILED: {failure}")
    print("from here on onnxruntime plays TensorRT: verdicts count, times do not", flush=True)
    return len(failures)


def _store(options: argparse.Namespace, stage: str, result: dict[str, Any]) -> None:
    if options.json is None:
        return
    known = json.loads(options.json.read_text()) if options.json.is_file() else {"stages": {}}
    known["self_check"] = options.self_check
    known["stages"][stage] = result
    options.json.write_text(json.dumps(known, indent=1))


def report(options: argparse.Namespace) -> int:
    """Print the tables."""
    from road.report import report as tables

    merged, *others = [json.loads(path.read_text()) for path in options.results]
    for other in others:
        merged["stages"] |= other["stages"]
    print(tables(merged))
    return 0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)

    verb = verbs.add_parser("prepare", help="write models, inputs and reference outputs")
    verb.add_argument("--out", type=Path, required=True, help="the folder that travels")
    verb.add_argument("--cases", nargs="+", choices=GROUPS, default=GROUPS)
    verb.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    verb.add_argument("--small", action="store_true", help="small networks, for a rehearsal")
    verb.add_argument("--headers", type=Path, help="TensorRT's headers: compile the runner too")
    verb.add_argument("--plugins", type=Path, help="a plugin library to put beside the models")
    verb.set_defaults(run=prepare)

    verb = verbs.add_parser("run", help="build, verify and time")
    verb.add_argument("folder", type=Path, help="what prepare wrote")
    verb.add_argument("--json", type=Path, help="where results are collected")
    verb.add_argument("--log", type=Path, help="where TensorRT's messages are collected")
    verb.add_argument("--stages", nargs="+", help="these alone")
    verb.add_argument("--runner", type=Path, help=f"default: {RUNNER} in the folder")
    verb.add_argument("--plugins", type=Path, help="default: the library in the folder")
    verb.add_argument("--libraries", type=Path, help="folder of TensorRT's libraries")
    verb.add_argument("--work", type=Path, help="where engines are kept; default: in the folder")
    verb.add_argument("--self-check", action="store_true", help="what needs no GPU")
    verb.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    verb.set_defaults(run=run)

    verb = verbs.add_parser("report", help="print results as markdown")
    verb.add_argument("results", type=Path, nargs="+", help="later files win")
    verb.set_defaults(run=report)

    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())

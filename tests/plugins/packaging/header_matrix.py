"""Build and run the plugin tests, and compile the C++ runtime's back end, for several TensorRTs.

    header_matrix.py HEADERS BUILD [VERSION...]

HEADERS has one folder a version, each with an include folder. The kernels are emulated, so nothing
of CUDA is needed; the back end is left out where there are no CUDA headers, and says so. Ends with
a table; exits 1 if a version failed, 77 if there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def cuda_headers() -> Path | None:
    """The folder of CUDA's headers, by CUDA_PATH or where its toolkit is installed."""
    roots = [Path(os.environ.get("CUDA_PATH", "")), *sorted(Path("/usr/local").glob("cuda*"))]
    found = [root / "include" for root in roots]
    return next((path for path in found if (path / "cuda_runtime_api.h").is_file()), None)


def backend_steps(headers: Path, cuda: Path) -> list[list[str]]:
    """How to compile every source of the runtime's back end, if it knows this version."""
    if headers.name.startswith("8.5"):
        return []  # whose registry loads no plugin library
    runtime = ROOT / "engines" / "runtime"
    flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    includes = ["-I", str(runtime), "-I", str(runtime / "include")]
    system = ["-isystem", str(headers / "include"), "-isystem", str(cuda)]
    compiler = os.environ.get("CXX", "c++")
    return [
        [compiler, *flags, *includes, *system, str(source)]
        for source in sorted((runtime / "backends" / "tensorrt").glob("*.cpp"))
    ]


def failure_of(headers: Path, build: Path) -> str | None:
    """Return the output of the step that failed for these headers, or None."""
    interface = "v2" if headers.name.startswith(("8.", "9.")) else "v3"
    options = ["-DPAGDEPLOY_BUILD_TESTS=ON", "-DPAGDEPLOY_CUDA=OFF", "-DPAGDEPLOY_TENSORRT=AUTO"]
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    target = f"plugin_{interface}_test"
    program = build / "tests" / "plugins" / "tensorrt" / target
    root = f"-DTensorRT_ROOT={headers}"
    steps: list[list[str]] = [
        ["cmake", "-S", str(ROOT), "-B", str(build), root, python, *options],
        ["cmake", "--build", str(build), "--target", target],
        [str(program), "--gtest_brief=1"],
    ]
    if (cuda := cuda_headers()) is not None:
        steps += backend_steps(headers, cuda)
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"{' '.join(step)}\n{done.stdout}\n{done.stderr}"
    return None


def main() -> None:
    """Try every version and print a line for each."""
    folder, build, *only = sys.argv[1:]
    found = sorted(path.parents[1] for path in Path(folder).glob("*/include/NvInferRuntime.h"))
    versions = [path for path in found if not only or path.name in only]
    if not versions:
        print(f"skipped: no headers below {folder}")
        sys.exit(77)
    if cuda_headers() is None:
        print("skipped the runtime's back end: no CUDA headers (CUDA_PATH)")
    failed = []
    for headers in versions:
        start = time.monotonic()
        failure = failure_of(headers, Path(build) / headers.name)
        verdict = "ok" if failure is None else "FAILED"
        print(f"{headers.name:10} {verdict:7} {time.monotonic() - start:6.1f} s", flush=True)
        if failure is not None:
            failed.append(headers.name)
            print(failure)
    print(f"{len(versions) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Build and run the plugin tests against the headers of several TensorRT versions.

    header_matrix.py HEADERS BUILD [VERSION...]

HEADERS has one folder a version, each with an include folder. The kernels are emulated, so nothing
of CUDA is needed. Ends with a table; exits 1 if a version failed, 77 if there is none.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


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

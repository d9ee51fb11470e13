"""Hold the plugin library to what it may export and what it may need.

    check_symbols.py LIBRARY TENSORRT_MAJOR

Exits 1 and says why if it exports another name than TensorRT looks up, needs a TensorRT or CUDA
library or symbol, or registers itself when loaded; 77 if there is no `nm` or `readelf`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys


def lines_of(*command: str) -> list[str]:
    """Return what a program prints, line by line."""
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed.splitlines()


def symbols(library: str, which: str) -> set[str]:
    """Return the dynamic symbols of a kind, without their versions."""
    listed = lines_of("nm", "-D", which, library)
    return {line.split()[-1].split("@")[0] for line in listed if line.split()}


def faults_of(library: str, major: int) -> list[str]:
    """Return what is wrong with the library, a sentence each."""
    wanted = {"getCreators" if major >= 10 else "getPluginCreators", "setLoggerFinder"}
    exported = symbols(library, "--defined-only")
    faults = []
    if exported != wanted:
        faults.append(f"it exports {sorted(exported)}, not {sorted(wanted)}")
    undefined = symbols(library, "--undefined-only")
    hosts = ("nvinfer", "getPluginRegistry", "getLogger", "createInfer", "cuda")
    for name in sorted(undefined):
        # A CUDA function would come from a second runtime; nvinfer's from the wrong flavour.
        if any(part in name for part in hosts):
            faults.append(f"it leaves {name} to be found at load")
    needed = [
        line.split("[")[1].rstrip("]")
        for line in lines_of("readelf", "-dW", library)
        if "(NEEDED)" in line
    ]
    known = ("libstdc++.so", "libm.so", "libgcc_s.so", "libc.so", "libdl.so", "librt.so")
    allowed = (*known, "libpthread.so", "ld-linux")
    for name in needed:
        if not name.startswith(allowed):
            faults.append(f"it needs {name}")
    return faults


def main() -> None:
    """Check the library named on the command line."""
    if not (shutil.which("nm") and shutil.which("readelf")):
        print("skipped: no nm and readelf (Debian: binutils)")
        sys.exit(77)
    faults = faults_of(sys.argv[1], int(sys.argv[2]))
    for fault in faults:
        print(f"{sys.argv[1]}: {fault}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

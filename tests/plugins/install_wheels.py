"""Install the TensorRT runtimes that tests load plugins into, side by side in one folder.

    python tests/plugins/install_wheels.py [FOLDER]

FOLDER is build/tensorrt-wheels if it is not given. Two major versions share their package names,
so each goes into a folder of its own, and no environment holds them. About 190 MB to download,
450 MB unpacked; none needs a GPU. The bindings are for the Python that runs this.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WHEELS = {
    "lean10": ("tensorrt-lean-cu13-libs>=10,<11", "tensorrt-lean-cu13-bindings>=10,<11"),
    "lean11": ("tensorrt-lean-cu13-libs>=11,<12", "tensorrt-lean-cu13-bindings>=11,<12"),
    "rtx": ("tensorrt-rtx-cu13-libs>=1.7,<2", "tensorrt-rtx-cu13-bindings>=1.7,<2"),
}


def main() -> None:
    """Install what is not there yet."""
    root = Path(__file__).parents[2]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "build" / "tensorrt-wheels"
    for name, wheels in WHEELS.items():
        if (folder / name).is_dir():
            continue
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command = [*pip, "--only-binary=:all:", "--target", str(folder / f".{name}"), *wheels]
        subprocess.run(command, check=True)
        (folder / f".{name}").rename(folder / name)
        print(f"{folder / name}: {', '.join(wheels)}")


if __name__ == "__main__":
    main()

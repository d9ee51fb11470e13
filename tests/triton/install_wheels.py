"""Install what the tests of Triton's side need: its schema, and a server.

    python tests/triton/install_wheels.py [FOLDER]

FOLDER is build/triton-wheels if it is not given. `client` holds the schema of a model
configuration as tritonclient ships it (0.1 MB); `server` holds the program `tritonserver` as
nvidia-pytriton ships it (55 MB; Linux on x86_64 only), without a backend for our models. Neither
goes into an environment: their requirements would change versions that the tests are about.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

WHEELS = {"client": "tritonclient>=2.50", "server": "nvidia-pytriton>=0.7"}


def main() -> None:
    """Install what is not there yet."""
    root = Path(__file__).parents[2]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "build" / "triton-wheels"
    has_server = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    for name, wheel in WHEELS.items():
        if (folder / name).is_dir() or (name == "server" and not has_server):
            continue
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command = [*pip, "--only-binary=:all:", "--target", str(folder / f".{name}"), wheel]
        subprocess.run(command, check=True)
        for program in (folder / f".{name}").glob("pytriton/tritonserver/bin/tritonserver"):
            program.chmod(0o755)
        (folder / f".{name}").rename(folder / name)
        print(f"{folder / name}: {wheel}")


if __name__ == "__main__":
    main()

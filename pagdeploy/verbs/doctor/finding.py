"""What doctor finds, and where it looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pagdeploy.engines.nvidia.driver import Driver, driver
from pagdeploy.engines.nvidia.linker import Linker, system_linker
from pagdeploy.engines.nvidia.obstacle import Obstacle

Status = Literal["ok", "absent", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What.
        status: "ok"; "absent" if something optional is not there; "problem" if it must be mended.
        found: Version or reason.
        remedy: What to do; empty if nothing.
    """

    subject: str
    status: Status
    found: str
    remedy: str = ""

    @classmethod
    def of(cls, subject: str, status: Status, obstacle: Obstacle) -> Finding:
        """What is in the way, as a finding."""
        return cls(subject, status, obstacle.reason, obstacle.remedy)


@dataclass(frozen=True)
class Machine:
    """Where doctor looks.

    Attributes:
        environment: Environment variables.
        site: Folders with Python packages, in the order of sys.path.
        linker: How shared libraries are found.
        driver: What the CUDA driver answers.
    """

    environment: Mapping[str, str]
    site: tuple[Path, ...]
    linker: Linker
    driver: Driver


def this_machine() -> Machine:
    """The machine that this process runs on."""
    site = tuple(Path(folder) for folder in sys.path if Path(folder).is_dir())
    return Machine(os.environ, site, system_linker(), driver())

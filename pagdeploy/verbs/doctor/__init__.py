"""Doctor: what is installed, what is missing, what to do."""

from __future__ import annotations

from pagdeploy.verbs.doctor.finding import Finding, Machine, this_machine

__all__ = ["Finding", "Machine", "doctor", "this_machine"]


def doctor(machine: Machine | None = None) -> list[Finding]:
    """Look at a machine; nothing is changed, and no native library is loaded but onnxruntime's.

    Args:
        machine: Where to look; this machine if not given.
    """
    from pagdeploy.verbs.doctor import libraries, nvidia, packages, plugins, system

    where = machine or this_machine()
    return [
        *packages.findings(),
        *system.findings(where),
        *nvidia.findings(where),
        *libraries.findings(where),
        *plugins.findings(where),
    ]

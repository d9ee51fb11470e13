"""TensorRT's and CUDA's libraries: what is there, which one wins, and whose needs are not met."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from pagdeploy.engines.nvidia.libraries import (
    NativeLibrary,
    bindings,
    find_libraries,
    is_tensorrts,
    read_consumer,
    winner,
)
from pagdeploy.errors import PagdeployError
from pagdeploy.verbs.doctor.finding import Finding, Machine

_SHOWN = ("libcudart", "libcudnn.")  # of CUDA's; the rest matters only where somebody needs it


def findings(machine: Machine) -> Iterator[Finding]:
    """The libraries, then those that need them."""
    libraries = find_libraries(machine.site, machine.linker)
    yield from _places(libraries)
    yield from _too_new(libraries, machine)
    yield from _conflicts(libraries, machine)
    for module in bindings(machine.site):
        yield _bindings(module, libraries, machine)
    for kind, purpose in (("cuda", "onnxruntime on the GPU"), ("tensorrt", "")):
        for folder in machine.site:
            path = folder / f"onnxruntime/capi/libonnxruntime_providers_{kind}.so"
            if path.is_file():
                yield _provider(path, kind, purpose, libraries, machine)


def _places(libraries: Sequence[NativeLibrary]) -> Iterator[Finding]:
    """One finding per package or folder, and version."""
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for library in libraries:
        if is_tensorrts(library.soname) or library.soname.startswith(_SHOWN):
            kind = "tensorrt libraries" if is_tensorrts(library.soname) else "cuda libraries"
            place = f"{library.origin}, {library.path.parent}"
            rows[kind, place, library.version or "?"].append(library.soname)
    for (kind, place, version), names in rows.items():
        yield Finding(kind, "ok", f"{version} from {place}: {', '.join(sorted(names))}")
    if not any(kind == "tensorrt libraries" for kind, _, _ in rows):
        advice = "For TensorRT engines: pip install 'pagdeploy[tensorrt]'"
        yield Finding("tensorrt libraries", "absent", "none found", advice)


def _too_new(libraries: Sequence[NativeLibrary], machine: Machine) -> Iterator[Finding]:
    """Packages for a CUDA that the driver does not serve; their names say for which."""
    driver = machine.driver.cuda
    for origin in dict.fromkeys(library.origin for library in libraries):
        needs = re.search(r"[-_]cu(\d+)", origin)
        if driver and needs and int(needs.group(1)) > int(driver.partition(".")[0]):
            found = f"{origin} needs CUDA {needs.group(1)}, and the driver serves {driver}"
            advice = "Install a newer driver, or the package for an older CUDA."
            yield Finding("nvidia driver", "problem", found, advice)


def _conflicts(libraries: Sequence[NativeLibrary], machine: Machine) -> Iterator[Finding]:
    """The same soname in several versions: plans of the one are refused by the other."""
    by_name: dict[str, list[NativeLibrary]] = defaultdict(list)
    for library in libraries:
        if is_tensorrts(library.soname):
            by_name[library.soname].append(library)
    for soname, candidates in by_name.items():
        if len({candidate.version for candidate in candidates}) > 1:
            taken = winner(soname, candidates, machine.linker)
            there = "; ".join(f"{c.version} in {c.path.parent}" for c in candidates)
            others = machine.linker.find(soname)
            text = f"{there}. Python takes {taken}, other programs {others or 'none'}"
            advice = "Keep one of them, or plans that one builds are refused by the other."
            yield Finding(soname, "problem", text, advice)


def _bindings(path: Path, libraries: Sequence[NativeLibrary], machine: Machine) -> Finding:
    name = path.parent.name
    try:
        consumer = read_consumer(path, libraries, machine.linker)
    except PagdeployError as problem:
        return Finding(name, "problem", problem.message, "Install it again.")
    owner, version = _distribution_of(path, machine)
    if consumer.lacks:
        lacking = ", ".join(consumer.lacks)
        package = f"{owner.replace('bindings', 'libs')}=={version}" if owner else "tensorrt"
        return Finding(
            name,
            "problem",
            f"{version}, but its libraries are not here: {lacking}",
            f"pip install '{package}'",
        )
    return Finding(name, "ok", f"{version}, its libraries are here: {', '.join(consumer.needs)}")


def _provider(
    path: Path, kind: str, purpose: str, libraries: Sequence[NativeLibrary], machine: Machine
) -> Finding:
    """A provider of onnxruntime; without its libraries onnxruntime silently takes the CPU."""
    subject = f"onnxruntime's {kind} provider"
    try:
        consumer = read_consumer(path, libraries, machine.linker)
    except PagdeployError as problem:
        return Finding(subject, "problem", problem.message, "Install onnxruntime-gpu again.")
    if not consumer.lacks:
        return Finding(subject, "ok", f"what it needs is here: {', '.join(consumer.needs)}")
    found = f"needs {', '.join(consumer.lacks)}, not found"
    if kind == "tensorrt":
        return Finding(subject, "absent", found, "Not used by pagdeploy, which asks TensorRT.")
    status = "problem" if machine.driver.gpus else "absent"
    advice = f"For {purpose}: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return Finding(subject, status, found, advice)  # type: ignore[arg-type]


def _distribution_of(path: Path, machine: Machine) -> tuple[str | None, str]:
    """Name and version of the package that a file belongs to."""
    for distribution in metadata.distributions(path=[str(folder) for folder in machine.site]):
        name = distribution.metadata["Name"] or ""
        if name.lower().startswith("tensorrt"):
            for file in distribution.files or ():
                if Path(str(distribution.locate_file(file))) == path:
                    return name, distribution.version
    return None, "?"

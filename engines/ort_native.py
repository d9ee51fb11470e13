"""Our op library for onnxruntime: where it is, and whether it works here.

    library = op_library()
    if library is not None:
        options.register_custom_ops_library(str(library))

A session with it runs PAGGate and PerforatedConv themselves, also where the model has function
bodies for them, and the ops that only the lowering for it writes (docs/plugins.md). It is looked
for in the file that PAGDEPLOY_ORT_OPS names, and then in the package's own folder pagdeploy/lib,
where a platform wheel has it. PAGDEPLOY_ORT_OPS=off does without.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pagdeploy.errors import EnvironmentProblem
from pagdeploy.files import is_file, make_folder, replacing_file, sha256_of
from pagdeploy.ops import DOMAIN

LIBRARY = "libpagdeploy_ort.so"
VARIABLE = "PAGDEPLOY_ORT_OPS"
_OFF = "off"
_PATIENCE = 120  # seconds for a test that takes one
_TEST = 4  # counted up when the test asks for more, so that a library is tested again

_log = logging.getLogger("pagdeploy.engines")


def op_library() -> Path | None:
    """The library, if there is one and it passes its test here; a warning says why not.

    Raises:
        EnvironmentProblem: PAGDEPLOY_ORT_OPS names a file that is not there.
    """
    path = find_op_library()
    if path is None:
        return None
    if problem := self_test(path):
        _log.warning("The onnxruntime ops in %s are left out: %s", path, problem)
        return None
    return path


def needs_library(model: bytes) -> bool:
    """Whether a model has nodes of ours that it has no function body for.

    Args:
        model: A serialized ModelProto.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.ModelProto.FromString(model)
    except DecodeError:  # onnxruntime says so with its own words
        return False
    bodies = {(function.domain, function.name) for function in proto.functions}
    graphs = [proto.graph]
    while graphs:
        for node in graphs.pop().node:
            ours = node.domain == DOMAIN or node.domain.startswith(f"{DOMAIN}.")
            if ours and (node.domain, node.op_type) not in bodies:
                return True
            graphs += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return False


def find_op_library(environment: Mapping[str, str] | None = None) -> Path | None:
    """Where the library is, working or not; None if there is none, or none is wanted.

    Raises:
        EnvironmentProblem: PAGDEPLOY_ORT_OPS names a file that is not there.
    """
    given = (os.environ if environment is None else environment).get(VARIABLE, "")
    if given == _OFF:
        return None
    if given:
        if not is_file(Path(given)):
            raise EnvironmentProblem(
                f"{VARIABLE} names the file {given}, which does not exist.",
                remedy=f"Name the built {LIBRARY}, unset it, or set it to {_OFF!r}.",
            )
        return Path(given)
    installed = Path(str(importlib.resources.files("pagdeploy"))) / "lib" / LIBRARY
    return installed if is_file(installed) else None


def self_test(path: Path) -> str | None:
    """None if the library computes what the op table says, else the reason in one sentence.

    The test runs in a process of its own, because a library can end its host. That it passed is
    remembered for this file, this onnxruntime and this machine.
    """
    return _self_test(path, sha256_of(path))


@functools.cache
def _self_test(path: Path, sha256: str) -> str | None:
    mark = _mark(sha256)
    if mark.exists():
        return None
    problem = _run_probe(path)
    if problem is None:
        try:
            make_folder(mark.parent)
            with replacing_file(mark) as temporary:
                temporary.write_text(f"{path}\n", encoding="utf-8")
        except (OSError, EnvironmentProblem):
            pass  # a home that cannot be written to costs a second each time
    return problem


def _mark(sha256: str) -> Path:
    from platformdirs import user_cache_path

    # The kernels differ by processor, and a home may be shared between machines.
    name = "-".join((sha256[:32], str(_TEST), *_runtimes(), platform.node() or "machine"))
    return Path(user_cache_path("pagdeploy")) / "ort-ops" / name


def _runtimes() -> list[str]:
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return found


def _run_probe(path: Path) -> str | None:
    program = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from pagdeploy.engines.ort_native_probe import main\n"
        f"main({str(path)!r})"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"Its test could not be run ({type(problem).__name__})."
    if done.returncode < 0:
        return f"Its test ended with signal {-done.returncode}."
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return f"Its test ended with status {done.returncode}."
    return None if answer["problem"] is None else str(answer["problem"])

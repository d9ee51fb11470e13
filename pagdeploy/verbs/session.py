"""A session for a bundle; everything that can be known is checked before a native library runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pagdeploy.bundle import Bundle
from pagdeploy.errors import EnvironmentProblem, IncompatibleArtifact, UsageError

if TYPE_CHECKING:
    from pagdeploy.engines.base import Engine, Session
    from pagdeploy.manifest import PlanInfo


def open_session(
    bundle: Bundle, *, selections: bool = False, threads: int = 0, host_code: bool = False
) -> Session:
    """Load a bundle's engine.

    Args:
        bundle: Opened, so its files are those that were built.
        selections: Show each gate's selection as a further output, where the engine is a graph; a
            plan shows what it was built with.
        threads: Threads inside one operator, on a CPU; 0 takes one per core.
        host_code: Let code that comes with a plan run here: what a version-compatible plan
            holds, and plugin libraries that are not installed on this machine.

    Raises:
        UsageError: a plan brings code, and that is not allowed.
        EnvironmentProblem: the runtime or a GPU is missing.
        IncompatibleArtifact: the plan is not for this runtime or GPU.
        BuildFailed: onnxruntime refuses the model.
    """
    from pagdeploy.engines import engine_named

    info = bundle.manifest.engine
    engine = engine_named(info.flavour)
    if info.plan is not None:
        return _open_plan(bundle, engine, info.plan, host_code)
    if problem := engine.runnable():
        raise EnvironmentProblem(f"{bundle.path} needs {info.flavour}.", remedy=problem)
    from pagdeploy.graph.gates import expose
    from pagdeploy.graph.read import read_model

    model = read_model(bundle.file(info.file))
    if selections:
        model = expose(model, [gate.selection for gate in bundle.manifest.gates])
    libraries = op_libraries(bundle, host_code)
    return engine.load(model.SerializeToString(), plugins=libraries, threads=threads)


def op_libraries(bundle: Bundle, host_code: bool) -> list[Path]:
    """The libraries of our onnxruntime ops to load: this machine's own before the bundle's.

    Raises:
        UsageError: the library is only in the bundle, and its code is not allowed to run.
        EnvironmentProblem: the bundle's library does not work here.
    """
    from pagdeploy.engines.ort_native import op_library, self_test

    files = [bundle.file(name) for name in bundle.manifest.engine.libraries]
    if not files:
        return []
    if installed := op_library():
        return [installed]
    for file in files:
        if not host_code:
            raise _needs_leave(bundle, file)
        if problem := self_test(file):
            raise EnvironmentProblem(
                f"The onnxruntime ops of {bundle.path} do not work here ({problem.rstrip('.')}).",
                remedy="Build it again here with 'pagdeploy build --from-bundle'.",
            )
    return files


def _needs_leave(bundle: Bundle, file: Path) -> UsageError:
    return UsageError(
        f"{bundle.path} brings the library {file.name}, whose code would run on this machine.",
        remedy="Allow it with --allow-host-code if you trust whoever built it, or install the"
        " library (docs/plugins.md).",
    )


def _open_plan(bundle: Bundle, engine: Engine, plan: PlanInfo, host_code: bool) -> Session:
    file = bundle.file(bundle.manifest.engine.file)
    require_loadable(bundle, engine)
    return engine.load(
        file.read_bytes(),
        plan=plan,
        plugins=plugin_libraries(bundle, engine.version(), host_code),
        host_code=host_code,
    )


def plugin_libraries(bundle: Bundle, version: str, host_code: bool) -> list[Path]:
    """The libraries to load for a plan: this machine's own in place of ours in the bundle.

    Args:
        bundle: With a plan.
        version: Of the TensorRT that loads them.
        host_code: Run the bundle's own libraries; whoever built it is trusted.

    Raises:
        UsageError: a library is only in the bundle, and its code is not allowed to run.
    """
    from pagdeploy.engines.nvidia.plugin_library import find_plugin_library, read_plugin_library

    plan = bundle.manifest.engine.plan
    assert plan is not None, "the caller has a plan"
    major = int(version.partition(".")[0])
    installed = find_plugin_library(major)
    libraries = []
    for file in map(bundle.file, plan.plugins):
        ours = read_plugin_library(file).tensorrt_major
        if ours is not None and installed is not None:
            libraries.append(installed)  # also where a compatible plan moved to another major
        elif plan.embeds_plugins and host_code:
            continue  # the plan brings it
        elif not host_code:
            raise _needs_leave(bundle, file)
        else:
            libraries.append(file)
    return libraries


def require_loadable(bundle: Bundle, engine: Engine) -> None:
    """Refuse a plan that this machine cannot load, by its header and the manifest.

    Raises:
        EnvironmentProblem: the runtime or a GPU is missing.
        IncompatibleArtifact: it was built with another version, or for another GPU.
    """
    from pagdeploy.engines.nvidia.compatibility import why_not_loadable
    from pagdeploy.engines.nvidia.driver import gpus
    from pagdeploy.engines.nvidia.plan import read_plan_header

    info = bundle.manifest.engine
    try:
        installed: str | None = engine.version()
    except EnvironmentProblem:
        installed = None
    found = gpus()
    problem = why_not_loadable(
        read_plan_header(bundle.file(info.file)),
        runtime=engine.name,
        installed=installed,
        gpu=found[0] if found else None,
        plan=info.plan,
        bundle=bundle.path,
    )
    if problem is not None:
        raise problem.error(IncompatibleArtifact)

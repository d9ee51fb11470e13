"""A session for a bundle; everything that can be known is checked before a native library runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagdeploy.bundle import Bundle
from pagdeploy.errors import EnvironmentProblem, IncompatibleArtifact

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
        host_code: Let a plan that holds code of its own run it here.

    Raises:
        UsageError: a plan holds code, and that is not allowed.
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
    return engine.load(model.SerializeToString(), threads=threads)


def _open_plan(bundle: Bundle, engine: Engine, plan: PlanInfo, host_code: bool) -> Session:
    file = bundle.file(bundle.manifest.engine.file)
    require_loadable(bundle, engine)
    return engine.load(
        file.read_bytes(),
        plan=plan,
        plugins=[bundle.file(name) for name in plan.plugins],
        host_code=host_code,
    )


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

"""A plan on the GPU, ready to run."""

from __future__ import annotations

import contextlib
import json
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pagdeploy.engines.base import Array, Arrays, TensorInfo, check_inputs
from pagdeploy.engines.nvidia.log import first_line, last_error, make_log
from pagdeploy.engines.nvidia.plan import parse_plan_header
from pagdeploy.errors import BuildFailed, EnvironmentProblem, IncompatibleArtifact, UsageError
from pagdeploy.manifest import PlanInfo, Profile


def load_plan(
    trt: Any, flavour: str, content: bytes, plan: PlanInfo | None, host_code: bool = False
) -> PlanSession:
    """Deserialize a plan. There is a GPU, and the plan's plugins are registered.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
        flavour: What to call it in an error.
        content: The plan; its header was checked.
        plan: What the manifest says of it.
        host_code: Let the plan run code of its own on this machine: its lean runtime and the
            plugin libraries inside of it. The caller vouches for whoever built it.

    Raises:
        UsageError: the plan holds code, and the caller did not allow it.
        IncompatibleArtifact: TensorRT refuses the plan.
    """
    if plan is not None and plan.version_compatible and not host_code:
        raise UsageError(
            "The plan is version-compatible: it holds code that would run on this machine.",
            remedy="Allow it with --allow-host-code if you trust whoever built it.",
        )
    header = parse_plan_header(content, "The plan")
    if header.flavour != flavour:
        raise IncompatibleArtifact(
            f"The plan was built with {header}, which {flavour} cannot load.",
            remedy="Build it again here with 'pagdeploy build --from-bundle'.",
        )
    log = make_log(trt)
    runtime = trt.Runtime(log)
    if host_code and hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise IncompatibleArtifact(
            f"{flavour} {trt.__version__} refuses the plan"
            f" ({last_error(log, 'it gives no reason')}).",
            remedy="Build it again here with 'pagdeploy build --from-bundle'.",
        )
    # A logger and a runtime must outlive their engines, and nothing else here holds them.
    return PlanSession(trt, engine, plan, (log, runtime))


class PlanSession:
    """A deserialized plan; one thread at a time may run it."""

    def __init__(self, trt: Any, engine: Any, plan: PlanInfo | None, keep_alive: Any) -> None:
        self._engine = engine
        self._profiles: Sequence[Mapping[str, Profile]] = plan.profiles if plan else ()
        self._runners: dict[int, Any] = {}
        weakref.finalize(self, _deactivate, self._runners)
        self._rtx = "rtx" in trt.__name__
        self._trt = trt
        self._keep_alive = keep_alive
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        infos = {name: _info(trt, engine, name) for name in names}
        given = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        self._inputs = [infos[name] for name in names if name in given]
        self._outputs = [infos[name] for name in names if name not in given]

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """What it takes."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """What it gives."""
        return self._outputs

    def layers(self) -> list[dict[str, Any]]:
        """Every layer of the engine, as its inspector describes it: Name, LayerType, Inputs..."""
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        listed = json.loads(text).get("Layers", [])
        return [layer if isinstance(layer, dict) else {"Name": layer} for layer in listed]

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            UsageError: an input is missing, unknown, of a wrong dtype or shape, or outside of every
                optimization profile.
            BuildFailed: the engine fails at run time.
        """
        check_inputs(self.inputs, inputs)
        profile = profile_for(self._profiles, {name: a.shape for name, a in inputs.items()})
        try:
            runner = self._runner(profile)
            outputs = runner.infer(dict(inputs), check_inputs=False)
        except EnvironmentProblem:  # polygraphy is not here
            raise
        except Exception as problem:  # its own type, and those of its CUDA wrapper
            raise BuildFailed(
                f"The engine fails on this input ({first_line(str(problem))}).",
                remedy="See all that TensorRT says with -vv.",
            ) from None
        return {name: outputs[name].copy() for name in (info.name for info in self.outputs)}

    def enqueuer(self, inputs: Arrays) -> tuple[Callable[[], None], int]:
        """What enqueues one more run on these inputs without waiting for it, and the stream.

        The inputs stay on the GPU from one run, which this makes.

        Raises:
            UsageError, BuildFailed: as `run`; the call raises BuildFailed, too.
        """
        self.run(inputs)  # sets shapes and addresses, which the context keeps
        shapes = {name: array.shape for name, array in inputs.items()}
        runner = self._runner(profile_for(self._profiles, shapes))
        stream = int(runner.stream.ptr)

        def enqueue() -> None:
            if not runner.context.execute_async_v3(stream):
                raise BuildFailed(
                    "The engine fails when it is enqueued.",
                    remedy="See all that TensorRT says with -vv.",
                )

        return enqueue, stream

    def _runner(self, profile: int) -> Any:
        if profile not in self._runners:
            runner = _runner_type(self._trt, self._rtx)(self._engine, optimization_profile=profile)
            runner.activate()
            self._runners[profile] = runner
        return self._runners[profile]


def profile_for(
    profiles: Sequence[Mapping[str, Profile]], shapes: Mapping[str, Sequence[int]]
) -> int:
    """The first optimization profile that holds the inputs' shapes; 0 for fixed sizes.

    Raises:
        UsageError: none does; the message shows what they hold.
    """

    def holds(profile: Mapping[str, Profile]) -> bool:
        return all(
            all(low <= size <= high for low, size, high in zip(p.min, sizes, p.max, strict=True))
            for name, p in profile.items()
            for sizes in (shapes[name],)
        )

    for index, profile in enumerate(profiles):
        if holds(profile):
            return index
    if not profiles:
        return 0
    given = "; ".join(f"{name} {_spelt(shape)}" for name, shape in shapes.items())
    held = " or ".join(
        "; ".join(f"{name} {_spelt(p.min)} to {_spelt(p.max)}" for name, p in profile.items())
        for profile in profiles
    )
    raise UsageError(
        f"The input {given} lies outside of what the engine was built for.",
        remedy=f"It takes {held}; build with other --min-shapes and --max-shapes for more.",
    )


def _spelt(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _info(trt: Any, engine: Any, name: str) -> TensorInfo:
    kind = engine.get_tensor_dtype(name)
    dtype = "bfloat16" if kind.name == "BF16" else str(trt.nptype(kind).__name__)
    shape = tuple(
        size if size >= 0 else f"{name}.{axis}"
        for axis, size in enumerate(engine.get_tensor_shape(name))
    )
    return TensorInfo(name, dtype, shape)


def _deactivate(runners: dict[int, Any]) -> None:
    """Free buffers, streams and contexts."""
    for runner in runners.values():
        # After a fault on the GPU every call fails, and the user was told of the fault.
        with contextlib.suppress(Exception):
            for buffer in runner.output_allocator.buffers.values():  # which deactivate() leaves
                buffer.free()
            runner.deactivate()
    runners.clear()


def _runner_type(trt: Any, rtx: bool) -> Any:
    """Polygraphy's runner: it owns buffers, stream and output allocation."""
    if rtx:  # it imports that name, and a bare wheel has another
        sys.modules.setdefault("tensorrt_rtx", trt)
    try:
        from polygraphy import config
        from polygraphy.logger import G_LOGGER

        config.USE_TENSORRT_RTX = rtx
        G_LOGGER.use_python_logging_system = True  # its own goes to stdout
        from polygraphy.backend.trt import TrtRunner
    except ImportError:
        extra = "tensorrt-rtx" if rtx else "tensorrt"
        raise EnvironmentProblem.missing_extra("polygraphy", extra, "Running a plan") from None
    return TrtRunner

"""Runs variants of a plan's graph on the GPU: with gates shown, and with decisions forced in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pagdeploy.bundle import Bundle
from pagdeploy.engines.base import BuildOptions
from pagdeploy.manifest import Profile
from pagdeploy.verbs.session import plugin_libraries

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]


class PlanRunner:
    """Builds a plan from each model that it is given, as the bundle's was built, and runs it once.

    Args:
        bundle: With a plan that can be loaded here.
        host_code: As `open_session`.
    """

    def __init__(self, bundle: Bundle, host_code: bool = False) -> None:
        from pagdeploy.engines import engine_named

        info = bundle.manifest.engine
        assert info.plan is not None, "the caller has a plan"
        self._engine = engine_named(info.flavour)
        rtx = self._engine.name == "tensorrt-rtx"
        cache = info.plan.timing_cache
        self._options = BuildOptions(
            precision=info.precision,
            # A plan may bring its library inside, but its variants have to be built with it.
            plugins=plugin_libraries(bundle, self._engine.version(), host_code)
            or [bundle.file(name) for name in info.plan.plugins],
            version_compatible=info.plan.version_compatible,
            hardware_compatibility=info.plan.hardware_compatibility,
            builder_optimization_level=info.plan.builder_optimization_level,
            memory_pools=info.plan.memory_pools,
            compute_capabilities=info.plan.compute_capabilities if rtx else (),
            timing_cache_seed=None if cache is None else bundle.file(cache),
        )

    def __call__(self, model: onnx.ModelProto, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Outputs of the model on those of the inputs that it has."""
        values = {value.name: value for value in model.graph.input}
        given = {name: array for name, array in inputs.items() if name in values}
        profile = {
            name: Profile(min=list(array.shape), opt=list(array.shape), max=list(array.shape))
            for name, array in given.items()
            if not all(d.dim_value for d in values[name].type.tensor_type.shape.dim)
        }
        options = replace(self._options, profiles=[profile] if profile else [])
        built = self._engine.build(model.SerializeToString(), options)
        session = self._engine.load(
            built.content, plan=built.plan, plugins=built.plugins, host_code=True
        )
        return session.run(given)

"""Which mixtures are hardened: those that are asked for, and of which a gate spares something."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagdeploy.errors import UsageError
from pagdeploy.verbs.harden.result import Left

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from pagdeploy.graph.mixtures import Mixture


class Choice:
    """Which mixtures of a model are hardened.

    Args:
        original: As it was read.
        only: Regular expressions of the names of their nodes; none wants all.

    Attributes:
        left: What stays soft, and why.
        gates: The name of each chosen one's gate, by the mixture's.

    Raises:
        UsageError: there is no mixture, or none of these names.
    """

    def __init__(self, original: onnx.ModelProto, only: Sequence[str]) -> None:
        self._original = original
        found = self._mixtures(self._read())
        if not found:
            raise UsageError(
                "The model has no soft mixture.",
                remedy="What is decided already needs no hardening: build it as it is.",
            )
        self.left: list[Left] = []
        self.gates: dict[str, str] = {}
        self._names = [name for name in found if _is_wanted(name, only)]
        if not self._names:
            raise UsageError(
                f"No soft mixture is called {' or '.join(only)}.",
                remedy=f"There are: {', '.join(found)}.",
            )
        self.left += [Left(name, "not asked for") for name in found if name not in self._names]

    def narrow(self) -> dict[str, int]:
        """Leave soft what would spare nothing; returns how many convolutions are, by mixture.

        Raises:
            UsageError: none is left.
        """
        from pagdeploy.graph.rulings import rulings_of
        from pagdeploy.passes import infer_perforation
        from pagdeploy.pipeline import RECOGNITION, run_passes

        while True:
            explored, self.gates = self._hardened()
            run_passes(explored, (*RECOGNITION, infer_perforation))  # as a build will see it
            by_gate = {str(gate.name): len(rows) for gate, rows in rulings_of(explored).items()}
            spared = {name: by_gate.get(self.gates[name], 0) for name in self._names}
            useless = [name for name, count in spared.items() if not count]
            self.left += [Left(name, "no convolution could be left out") for name in useless]
            self._names = [name for name in self._names if name not in useless]
            if not self._names:
                raise UsageError(
                    "Hardening would leave out no convolution.",
                    remedy="Only mixtures of what convolutions make, pixel by pixel, gain by it.",
                )
            if not useless:
                return spared

    def chosen(self) -> list[Mixture]:
        """Those of a model of its own, as read."""
        return [m for m in self._all(self._read()) if m.name in self._names]

    def soft(self) -> onnx.ModelProto:
        """The model as it is, at an opset of today."""
        import onnx_ir as ir

        return ir.to_proto(self._read())

    def hard(self) -> onnx.ModelProto:
        """The model with its chosen mixtures decided, in plain ONNX."""
        import onnx_ir as ir

        return ir.to_proto(self._hardened()[0])

    def _hardened(self) -> tuple[ir.Model, dict[str, str]]:
        from pagdeploy.passes.harden_mixtures import harden as rewrite

        module = self._read()
        chosen = [m for m in self._all(module) if m.name in self._names]
        return module, rewrite(module, chosen)

    def _read(self) -> ir.Model:
        from pagdeploy.pipeline import read_module

        return read_module(self._original)

    def _mixtures(self, module: ir.Model) -> list[str]:
        return [mixture.name for mixture in self._all(module)]

    @staticmethod
    def _all(module: ir.Model) -> list[Mixture]:
        from pagdeploy.graph.mixtures import mixtures_of

        return mixtures_of(module)


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    try:
        return not only or any(re.search(pattern, name) for pattern in only)
    except re.error as problem:
        raise UsageError(
            f"{problem.pattern!r} is no regular expression ({problem}).",
            remedy="Escape what stands for itself with a backslash.",
        ) from None

"""The ops for `onnx.reference.ReferenceEvaluator`, to run models whose bodies were stripped."""

from __future__ import annotations

from typing import Any

from onnx.reference.op_run import OpRun

from pagdeploy.ops import DOMAIN, OPS, Op


def operators() -> list[type[OpRun]]:
    """One class per op; hand the list to `ReferenceEvaluator(model, new_ops=...)`."""
    return [_operator(op) for op in OPS.values()]


def _operator(op: Op) -> type[OpRun]:
    def run(self: OpRun, *inputs: Any, **attributes: Any) -> tuple[Any]:
        plain = {a.name: attributes[a.name] for a in op.attributes}
        return (op.reference(*inputs, **plain),)

    # ReferenceEvaluator finds a class by its domain and by its own name.
    return type(op.name, (OpRun,), {"op_domain": DOMAIN, "_run": run})

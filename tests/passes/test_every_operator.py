"""Half precision keeps a model valid, whatever operator it holds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import onnx
import onnx.parser
import onnxruntime
import pytest

from pagdeploy.errors import BuildFailed
from pagdeploy.passes import cast_precision
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision

OPSETS = range(17, 22)
_SCHEMAS = onnx.defs.get_all_schemas_with_history()
# What ONNX's own examples lack.
MORE = (
    "s = SequenceConstruct (x, x) y = SequenceAt (s, i)",
    "s = SplitToSequence <axis = 0> (x) y = SequenceAt (s, i)",
    "s = SplitToSequence <axis = 0> (x) y = ConcatFromSequence <axis = 0> (s)",
    "s = SequenceEmpty () t = SequenceInsert (s, x) y = SequenceAt (t, i)",
    "s = SequenceConstruct (x) t = Identity (s) y = SequenceAt (t, i)",
    "o = Optional (x) y = OptionalGetElement (o)",
    "y = OptionalGetElement (x)",
    "y = RandomNormal <shape = [4, 4]> ()",
    "r = RandomNormalLike (x) y = Add (r, x)",
    "r = RandomUniformLike (x) y = Add (r, x)",
    "r = Bernoulli (x) y = Mul (r, x)",
    "e = EyeLike (x) y = MatMul (x, e)",
    "y = Trilu (x)",
    'y = Einsum <equation = "ij,jk->ik"> (x, x)',
    "y = CumSum (x, i)",
    "c = CastLike (i, x) y = Add (c, x)",
    "q, s, z = DynamicQuantizeLinear (x) y = DequantizeLinear (q, s, z)",
)


def examples() -> Iterator[onnx.ModelProto]:
    """Models that make float32 values, at each opset where an operator of theirs changes."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the examples divide by zero
        nodes = [case.model for case in collect_testcases(None)]
    seen = set()
    for model in nodes:
        kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
        node = model.graph.node[0]
        key = (node.op_type, *kinds, *(attribute.name for attribute in node.attribute))
        if onnx.TensorProto.FLOAT in kinds and key not in seen:
            seen.add(key)
            yield from _at_opsets(model)
    for body in MORE:
        text = f"m (float[4, 4] x) => (float[4, 4] y) <int64 i = {{0}}> {{ {body} }}"
        header = '<ir_version: 8, opset_import: ["" : 17]>'
        model = onnx.parser.parse_model(f"{header} {text}")
        onnx.checker.check_model(model)
        yield from _at_opsets(model)


def _at_opsets(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    names = {node.op_type for node in model.graph.node}
    changes = {s.since_version for s in _SCHEMAS if s.name in names and s.domain == ""}
    for opset in OPSETS:
        if opset != OPSETS[0] and opset not in changes:
            continue
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.ir_version = 10
        del copy.opset_import[:]
        copy.opset_import.append(onnx.helper.make_opsetid("", opset))
        if _fault(copy) is None:
            yield copy


def _fault(model: onnx.ModelProto) -> str | None:
    """What makes the model invalid."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        return str(problem)
    return None


def _load_fault(model: onnx.ModelProto) -> str | None:
    """Why onnxruntime refuses the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception as problem:  # onnxruntime's types have no base of their own
        return str(problem)
    return None


@pytest.mark.slow
def test_every_operator_is_cast_to_a_valid_model(monkeypatch):
    # Else a node that is alone would stay.
    monkeypatch.setattr(cast_precision, "_between_float32", lambda model, ports: set())
    faults, narrowed = {}, {"fp16": set(), "bf16": set()}
    for model in examples():
        for precision, types in narrowed.items():
            try:
                cast = lower(model, "dense", precision=Precision(precision))
            except BuildFailed:  # bf16, where the converter cannot write an operator at opset 22
                continue
            fault = _fault(cast)
            if fault is None and precision == "fp16" and _load_fault(model) is None:
                fault = _load_fault(cast)
            node = model.graph.node[0]
            if fault:
                faults[node.op_type, model.opset_import[0].version, precision] = fault
            types |= {node.op_type} if _is_narrow(cast) else set()
    assert faults == {}
    assert len(narrowed["fp16"]) > 80 and len(narrowed["bf16"]) > 60


def _is_narrow(model: onnx.ModelProto) -> bool:
    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return any(v.type.tensor_type.elem_type in halves for v in model.graph.value_info)

"""What is derived from the op table: schemas, bodies, generated files, and the node check."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.ops import DOMAIN, OPS, PAG_GATE, PERFORATED_CONV, Activation, Mode, __main__
from pagdeploy.ops.derive import check_node, function_body, plugin_fields, register_schemas
from pagdeploy.ops.evaluator import operators
from pagdeploy.ops.perforated_conv_reference import perforated_conv
from tests.compare import assert_close
from tests.models import Conv, conv_model, model_of, op_node, run_onnxruntime

REPOSITORY = Path(__file__).resolve().parents[2]
CONV = Conv()


@pytest.fixture(autouse=True, scope="module")
def schemas():
    register_schemas()
    register_schemas()  # idempotent
    assert all(onnx.defs.has(name, DOMAIN) for name in OPS)


def test_importing_the_table_is_cheap():
    code = "import sys, pagdeploy.ops; print([m for m in ('onnx', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_defaults_of_the_reference_are_those_of_the_table():
    parameters = inspect.signature(perforated_conv).parameters
    for attribute in PERFORATED_CONV.attributes:
        assert parameters[attribute.name].default == attribute.default, attribute.name
    assert [port.name for port in PERFORATED_CONV.inputs] == list(parameters)[:5]


def test_choices_are_named():
    assert PERFORATED_CONV.attribute("mode").names == {0: "replace", 1: "add"}
    words = {0: "none", 1: "relu", 2: "relu6", 3: "leaky_relu"}
    assert PERFORATED_CONV.attribute("activation").names == words
    assert (Mode.ADD, Activation.LEAKY_RELU) == (1, 3)


@pytest.mark.parametrize("opset", [17, 18, 20, 23])
def test_checker_accepts_a_portable_model(opset):
    model = conv_model(opset=opset, **CONV.attributes)
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    inlined = onnx.inliner.inline_local_functions(model)
    assert {node.domain for node in inlined.graph.node} == {""}
    onnx.checker.check_model(inlined, full_check=True)
    feed = {**CONV.operands(np.random.default_rng(0)), "selection": np.ones((2, 1, 7, 9), np.int32)}
    expected = perforated_conv(**feed, **CONV.attributes)
    for m in (model, inlined):
        assert_close(run_onnxruntime(m, feed)[0], expected, PERFORATED_CONV.bounds["float32"])


def test_body_refuses_an_old_opset():
    text = "The model is of opset 16, but PAGGate needs 17 or later."
    with pytest.raises(IncompatibleArtifact, match=text):
        function_body(PAG_GATE, 16)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_body_gives_no_attribute_defaults(op):
    body = function_body(op, 17)
    assert list(body.attribute) == [a.name for a in op.attributes]
    assert not body.attribute_proto
    assert not body.overload


def remove_attribute(node, name):
    kept = [a for a in node.attribute if a.name != name]
    assert len(kept) == len(node.attribute) - 1
    del node.attribute[:]
    node.attribute.extend(kept)


@pytest.mark.parametrize("bodies", [True, False])
def test_checker_refuses_a_misspelt_or_missing_attribute(bodies):
    model = conv_model(bodies=bodies, **CONV.attributes)
    onnx.checker.check_model(model, check_custom_domain=True)
    misspelt = onnx.ModelProto.FromString(model.SerializeToString())
    next(a for a in misspelt.graph.node[0].attribute if a.name == "branch").name = "brnach"
    with pytest.raises(onnx.checker.ValidationError, match="Unrecognized attribute: brnach"):
        onnx.checker.check_model(misspelt, check_custom_domain=True)
    remove_attribute(model.graph.node[0], "alpha")
    with pytest.raises(onnx.checker.ValidationError, match="Required attribute 'alpha' is missing"):
        onnx.checker.check_model(model, check_custom_domain=True)


def inferred(x, selection, **attributes):
    """The inferred shape of Y, dims as numbers or names; onnx calls an unknown one unk__."""
    model = model_of(
        [op_node("PerforatedConv", ["X", "selection", "W", "B", "base"], ["Y"], **attributes)],
        {
            "X": (TensorProto.FLOAT16, x),
            "selection": (TensorProto.INT32, selection),
            "W": (TensorProto.FLOAT16, (6, 4, 3, 3)),
            "B": (TensorProto.FLOAT16, (6,)),
            "base": (TensorProto.FLOAT16, (1, 1, 1, 1)),
        },
        {"Y": (TensorProto.FLOAT16, None)},
        bodies=False,
    )
    strict = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    type_ = strict.graph.output[0].type.tensor_type
    assert type_.elem_type == TensorProto.FLOAT16
    return [dim.dim_value or dim.dim_param for dim in type_.shape.dim]


@pytest.mark.parametrize(
    ("x", "selection", "change", "y"),
    [
        (("n", 4, 7, 9), ("n", 1, 7, 9), {}, ["n", 6, 7, 9]),
        (("n", 4, 7, 9), ("n", 1, 1, 1), {}, ["n", 6, 7, 9]),
        (("n", 4, 7, 9), ("n", 1, "h", "w"), {"strides": (2, 2)}, ["n", 6, 4, 5]),
        (("n", 4, "h", "w"), ("n", 1, "ho", "wo"), {"strides": (2, 2)}, ["n", 6, "ho", "wo"]),
        (("n", 4, "h", "w"), ("n", 1, 1, 1), {}, ["n", 6, "h", "w"]),
        (("n", 4, "h", "w"), ("n", 1, 1, 1), {"strides": (2, 2)}, ["n", 6, "unk__0", "unk__1"]),
    ],
)
def test_shape_inference_of_perforated_conv(x, selection, change, y):
    assert inferred(x, selection, **{**CONV.attributes, **change}) == y


def test_shape_inference_names_both_sizes():
    with pytest.raises(Exception, match=re.escape("is 14x18, but its output is 7x9")):
        inferred(("n", 4, 7, 9), ("n", 1, 14, 18), **CONV.attributes)


def test_shape_inference_of_pag_gate():
    model = model_of(
        [op_node("PAGGate", ["logits"], ["selection"])],
        {"logits": (TensorProto.FLOAT16, ("n", 5, "h", 9))},
        {"selection": (TensorProto.INT32, None)},
        bodies=False,
    )
    type_ = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type
    assert type_.elem_type == TensorProto.INT32
    assert [dim.dim_value or dim.dim_param for dim in type_.shape.dim] == ["n", 1, "h", 9]


def test_evaluator_runs_a_stripped_model():
    rng = np.random.default_rng(0)
    model = model_of(
        [
            op_node("PAGGate", ["logits"], ["selection"]),
            op_node(
                "PerforatedConv",
                ["X", "selection", "W", "B", "base"],
                ["Y"],
                **CONV.attributes,
                mode=int(Mode.ADD),
            ),
        ],
        {
            "logits": (TensorProto.FLOAT, ("n", "k", "h", "w")),
            **{name: (TensorProto.FLOAT, None) for name in ("X", "W", "B", "base")},
        },
        {"Y": (TensorProto.FLOAT, None)},
        bodies=False,
    )
    operands = CONV.operands(rng)
    logits = rng.normal(size=(CONV.n, 2, *CONV.out)).astype(np.float32)
    evaluator = ReferenceEvaluator(model, new_ops=operators())
    actual = evaluator.run(None, {"logits": logits, **operands})[0]
    expected = perforated_conv(
        **operands, selection=PAG_GATE.reference(logits), **CONV.attributes, mode=Mode.ADD
    )
    assert_close(actual, expected, 0.0)


GOOD = {attribute.name: attribute.kind for attribute in PERFORATED_CONV.attributes}
INPUTS = ["x", "s", "w", "b", "base"]


@pytest.mark.parametrize(
    ("op_type", "attributes", "inputs", "text"),
    [
        ("PerforatedConf", GOOD, INPUTS, "The op 'PerforatedConf' of the domain 'pagdeploy' is"),
        ("PerforatedConv", {}, INPUTS, "'conv1' (PerforatedConv) lacks the attribute 'kernel_sh"),
        ("PerforatedConv", {**GOOD, "brnach": "int"}, INPUTS, "has the unknown attribute 'brnach'"),
        ("PerforatedConv", {**GOOD, "mode": "string"}, INPUTS, "'mode' as 'string', not as 'int'"),
        ("PerforatedConv", GOOD, INPUTS[:3], "lacks the input 'B'"),
        ("PerforatedConv", GOOD, ["x", "s", "w", "", "base"], "lacks the input 'B'"),
        ("PerforatedConv", GOOD, [*INPUTS, "more"], "has 6 inputs, not 5"),
        ("PAGGate", {"axis": "int"}, ["l"], "has the unknown attribute 'axis'"),
    ],
)
def test_check_node_names_the_fault(op_type, attributes, inputs, text):
    with pytest.raises(IncompatibleArtifact, match=re.escape(text)):
        check_node(op_type, attributes, inputs, name="conv1")


def test_check_node_accepts_sound_nodes():
    check_node("PAGGate", {}, ["logits"])
    check_node("PerforatedConv", GOOD, INPUTS)
    check_node("PerforatedConv", {**GOOD, "plugin_version": "string"}, INPUTS)


def test_generated_files_are_fresh():
    assert __main__.stale(REPOSITORY) == [], "run `python -m pagdeploy.ops`"


def test_command_writes_and_checks(tmp_path, capsys):
    root = ["--root", str(tmp_path)]
    assert __main__.main([*root, "--check"]) == 1
    assert "plugins/ops.inc is stale; run `python -m pagdeploy.ops`" in capsys.readouterr().out
    assert __main__.main(root) == 2  # the folders do not exist
    assert "plugins does not exist" in capsys.readouterr().err
    for folder in ("plugins", "docs"):
        (tmp_path / folder).mkdir()
    assert __main__.main(root) == 0
    assert __main__.main([*root, "--check"]) == 0
    (tmp_path / "docs/ops.md").write_text("edited by hand")
    assert __main__.main([*root, "--check"]) == 1


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_plugin_fields_declare_a_struct(tmp_path):
    source = tmp_path / "fields.cpp"
    (tmp_path / "ops.inc").write_text(plugin_fields())
    source.write_text(
        "#include <vector>\n"
        "using ints = std::vector<int>;\n"
        "struct PerforatedConvFields {\n"
        "#define PAG_FIELD(op, field, kind, ...) PAG_FIELDS_##op(field, kind, __VA_ARGS__)\n"
        "#define PAG_FIELDS_PerforatedConv(field, kind, ...) kind field{__VA_ARGS__};\n"
        '#include "ops.inc"\n'
        "};\n"
        "int main() {\n"
        "  PerforatedConvFields f;\n"
        "  bool good = f.kernel_shape.empty() && f.strides == ints{1, 1} && f.branch == 1 &&\n"
        "              f.pads.size() == 4 && f.alpha == 0.01f;\n"
        "  return good ? 0 : 1;\n"
        "}\n"
    )
    program = tmp_path / "fields"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["c++", *flags, str(source), "-o", str(program)], check=True)
    subprocess.run([str(program)], check=True)

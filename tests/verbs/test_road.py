"""Build, verify, run, inspect: the road from a portable model, and the faults it must not pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from pagdeploy.bundle import open_bundle, seal
from pagdeploy.errors import BuildFailed, IncompatibleArtifact, UsageError
from pagdeploy.graph.read import graphs_of
from pagdeploy.manifest import Manifest
from pagdeploy.verbs.build import build
from pagdeploy.verbs.inspect import ModelSummary, inspect
from pagdeploy.verbs.run import file_names, load, parse_size, run
from pagdeploy.verbs.verify import verify


def plant(bundle: Path, fault: Callable[[onnx.GraphProto], None]) -> None:
    """Change the engine and seal the bundle again, as if it had been built so."""
    path = bundle / "engine.onnx"
    model = onnx.load(path)
    before = model.SerializeToString()
    fault(model.graph)
    assert model.SerializeToString() != before, "the fault was not planted"
    path.write_bytes(model.SerializeToString())
    seal(bundle, open_bundle_manifest(bundle))


def open_bundle_manifest(bundle: Path) -> Manifest:
    """The manifest, whatever the files now are."""
    return Manifest.model_validate_json((bundle / "manifest.json").read_text())


def convs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The convolutions that were perforated."""
    return [node for node in graph.node if node.op_type == "Conv" and "/Conv_" in node.name]


def constant(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    """An initializer by name."""
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def wrong_weight(graph: onnx.GraphProto) -> None:
    tensor = constant(graph, convs(graph)[1].input[1])
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0] += 0.1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def wrong_dilation(graph: onnx.GraphProto) -> None:
    for attribute in convs(graph)[1].attribute:
        if attribute.name in ("dilations", "pads"):
            attribute.ints[:] = [1] * len(attribute.ints)


def swapped_branches(graph: onnx.GraphProto) -> None:
    equal = next(node for node in graph.node if node.op_type == "Equal")
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int32), "other branch"))
    equal.input[1] = "other branch"


def shifted_mask(graph: onnx.GraphProto) -> None:
    at = next(i for i, node in enumerate(graph.node) if node.op_type == "Equal")
    selection = graph.node[at].input[0]
    for name, value in {"one": 1, "last": -1, "far": 2**31, "none": 0, "axis": 3}.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    nodes = [
        helper.make_node("Slice", [selection, "last", "far", "axis"], ["tail"]),
        helper.make_node("Slice", [selection, "none", "last", "axis"], ["head"]),
        helper.make_node("Concat", ["tail", "head"], ["shifted"], axis=3),
    ]
    graph.node[at].input[0] = "shifted"
    for node in reversed(nodes):
        graph.node.insert(at, node)


def reversed_ties(graph: onnx.GraphProto) -> None:
    argmax = [node for node in graph.node if node.op_type == "ArgMax"][1]
    next(a for a in argmax.attribute if a.name == "select_last_index").i = 1


def wrong_activation(graph: onnx.GraphProto) -> None:
    leaky = next(node for node in graph.node if node.op_type == "LeakyRelu")
    next(a for a in leaky.attribute if a.name == "alpha").f = 0.3


def wrong_gate(graph: onnx.GraphProto) -> None:
    tensor = constant(graph, "gate1")
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), "gate1"))


def hidden_gate(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["renamed" if name == "s1" else name for name in names]


@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_a_healthy_bundle_verifies(lowering, bundle, gather_bundle):
    result = verify(gather_bundle if lowering == "gather" else bundle)
    assert result.passed, result.reason
    assert result.lowering == lowering
    assert [gate.name for gate in result.gates] == ["node s1", "node s2"]
    assert [gate.pixels for gate in result.gates] == [480, 480]
    assert all(0.05 < gate.density[1] < 0.95 for gate in result.gates)
    assert [output.name for output in result.outputs] == ["y"]
    assert {stored.name for stored in result.sample} == {"y", "l1", "l2"}


FAULTS = {
    wrong_weight: "Output 'y' differs by",
    wrong_dilation: "Output 'y' differs by",
    swapped_branches: "Output 'y' differs by",
    shifted_mask: "Output 'y' differs by",
    wrong_activation: "Output 'y' differs by",
    reversed_ties: "Gate 'node s2' decides .* pixels not as its own logits say: the lowest index",
    wrong_gate: "Gate 'node s1' decides .* of 480 pixels differently, by a margin of up to",
    hidden_gate: "The engine does not show the decisions of gate 'node s1'",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_planted_faults_fail_and_are_named(bundle, fault):
    import re

    plant(bundle, fault)
    result = verify(bundle)
    assert not result.passed
    assert re.match(FAULTS[fault], str(result.reason)), result.reason


def test_a_wrong_weight_in_the_gathered_engine_fails(gather_bundle):
    def fault(graph: onnx.GraphProto) -> None:
        inner = graphs_of(onnx.ModelProto(graph=graph))  # a frame may take one of two branches
        gemm = next(node for each in inner for node in each.node if node.op_type == "Gemm")
        tensor = constant(graph, gemm.input[1])
        array = numpy_helper.to_array(tensor).copy()
        array[0] += 0.1
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    plant(gather_bundle, fault)
    assert "Output 'y' differs by" in str(verify(gather_bundle).reason)


def test_stored_answers_of_another_machine_are_told(bundle):
    from pagdeploy.bundle import read_arrays, write_arrays

    path = bundle / "sample/outputs.npz"
    arrays = read_arrays(path)
    arrays["y"] = arrays["y"] + 1
    write_arrays(path, arrays)
    seal(bundle, open_bundle_manifest(bundle))
    assert "The reference computes 'y' otherwise on this machine" in str(verify(bundle).reason)


@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_a_model_verifies_against_its_lowering(model_file, lowering):
    result = verify(model_file, lowering=lowering, shapes={"image": [2, 3, 9, 11]})
    assert result.passed, result.reason
    with pytest.raises(UsageError, match="There is no lowering 'fast'"):
        verify(model_file, lowering="fast", shapes={"image": [1, 3, 9, 9]})


def parsed(tmp_path: Path, body: str, *, head: str = "float[n, 2, h, w] l") -> Path:
    """A model file from text."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'
        f"g ({head}) => (float[n, 1, h, w] y) {body}"
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


SHAPES = {"l": [1, 2, 5, 6]}


@pytest.mark.parametrize(
    "body",
    [
        "{ a = pagdeploy.PAGGate (l) b = pagdeploy.PAGGate (l)"
        " c = Cast <to = 1> (a) d = Cast <to = 1> (b) y = Add (c, d) }",
        "{ a = pagdeploy.PAGGate (l) unread = pagdeploy.PAGGate (l) y = Cast <to = 1> (a) }",
        "{ y = ReduceMax <axes = [1]> (l) }",
    ],
    ids=["two gates of one mind", "a gate that nobody asks", "no gate"],
)
@pytest.mark.parametrize("lowering", ["gather", "dense"])
def test_odd_but_sound_models_verify(tmp_path, body, lowering):
    result = verify(parsed(tmp_path, body), shapes=SHAPES, lowering=lowering)
    assert result.passed, result.reason


def test_a_selection_may_be_an_output_and_logits_an_input(tmp_path):
    model = onnx.load(parsed(tmp_path, "{ s = pagdeploy.PAGGate (l) y = Cast <to = 1> (s) }"))
    model.graph.output.append(helper.make_tensor_value_info("s", 6, ["n", 1, "h", "w"]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    result = verify(tmp_path / "m.onnx", shapes=SHAPES)
    assert result.passed, result.reason
    assert {output.name for output in result.outputs} == {"y", "s"}


def test_nan_in_the_logits_is_not_hidden(tmp_path):
    path = parsed(tmp_path, "{ s = pagdeploy.PAGGate (l) y = Cast <to = 1> (s) }")
    logits = np.zeros((1, 2, 3, 4), np.float32)
    logits[0, 0, 1, 1] = np.nan
    result = verify(path, inputs={"l": logits})
    assert result.reason == "The logits of gate 's' hold NaN in the reference itself."


@pytest.mark.parametrize("kind", ["float[n, h, w, 2]", "float[n, 2]", "int64[n, 3]", "float"])
def test_models_with_any_kind_of_input_build_and_verify(tmp_path, kind):
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        f"g ({kind} l) => ({kind.replace('int64', 'float')} y) {{ y = Cast <to = 1> (l) }}"
    )
    path.write_bytes(model.SerializeToString())
    result = build(path, tmp_path / "m.pagbundle", lowering="dense")
    assert [gate.name for gate in result.manifest.gates] == []
    assert verify(tmp_path / "m.pagbundle").passed


def test_a_bundle_of_an_unknown_precision_is_refused(bundle):
    manifest = open_bundle_manifest(bundle)
    engine = manifest.engine.model_copy(update={"precision": "int3"})
    with pytest.raises(BuildFailed, match="so no bundle was made"):
        seal(bundle, manifest.model_copy(update={"engine": engine}))
    with pytest.raises(IncompatibleArtifact, match="is not a manifest that pagdeploy wrote"):
        verify(bundle)


def test_building_picks_the_fastest_and_writes_down_what_it_saw(model_file, tmp_path):
    steps: list[tuple[int, int]] = []
    result = build(
        model_file,
        tmp_path / "m.pagbundle",
        shapes={"image": [1, 3, 16, 18]},
        progress=lambda step, number, total: steps.append((number, total)),
    )
    manifest = open_bundle(tmp_path / "m.pagbundle").manifest
    assert manifest == result.manifest
    times = manifest.engine.measured_ms
    assert set(times) == {"gather", "dense"}
    assert manifest.engine.lowering == min(times, key=lambda name: times[name])
    assert manifest.inputs[0].sample_shape == [1, 3, 16, 18]
    assert manifest.inputs[0].shape == ["n", 3, "h", "w"]
    assert [gate.density for gate in manifest.gates] != [[0.5, 0.5]] * 2
    assert all(abs(sum(gate.density) - 1) < 1e-3 for gate in manifest.gates)
    assert [op.name for op in manifest.ops] == ["node a", "node y"]
    assert steps == [(number, 6) for number in range(1, 7)]
    assert "made-up noise" in result.warnings[0]
    assert (tmp_path / "m.pagbundle/model.onnx").read_bytes() == model_file.read_bytes()


def test_which_lowering_each_convolution_got_is_written_down(bundle, gather_bundle):
    for path, lowering in ((bundle, "dense"), (gather_bundle, "gather")):
        ops = open_bundle(path).manifest.ops
        assert [(op.name, op.lowering) for op in ops] == [
            ("node a", lowering),
            ("node y", lowering),
        ]


def test_a_build_that_fails_leaves_nothing(model_file, tmp_path):
    output = tmp_path / "m.pagbundle"
    for options, text in (
        ({"lowering": "fast"}, "has no lowering 'fast'. Choose one of: auto, gather, dense"),
        ({"engine": "none"}, "There is no engine named 'none'"),
        ({"inputs": {"image": np.zeros((1, 4, 8, 8), np.float32)}}, "The input 'image' is float32"),
        ({"inputs": {"photo": np.zeros(1)}}, "The model has no input named 'photo'"),
        ({"shapes": {"image": [3, 8, 8]}}, "The shape 3x8x8 does not fit"),
    ):
        with pytest.raises(UsageError, match=text):
            build(model_file, output, **options)
    assert not list(tmp_path.iterdir())


def test_running_gives_outputs_and_decisions(gather_bundle, tmp_path):
    Image.new("RGB", (12, 9), (200, 10, 90)).save(tmp_path / "p.png")
    outputs = run(gather_bundle, [f"image={tmp_path}/p.png"], save_outputs=tmp_path / "out")
    assert {name: array.shape for name, array in outputs.items()} == {
        "y": (1, 4, 9, 12),
        "s1": (1, 1, 9, 12),
        "s2": (1, 1, 9, 12),
    }
    for name, array in outputs.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"out/{name}.npy"), array)
        with Image.open(tmp_path / f"out/{name}.png") as picture:
            assert picture.size == (12, 9)
    resized = run(gather_bundle, [f"{tmp_path}/p.png"], size=(4, 6))
    assert resized["y"].shape == (1, 4, 4, 6)


def test_running_without_inputs_repeats_the_sample(bundle):
    stored = open_bundle(bundle).arrays("sample/outputs.npz")
    outputs = run(bundle, [])
    np.testing.assert_array_equal(outputs["s2"], stored["s2"])
    np.testing.assert_allclose(outputs["y"], stored["y"], rtol=1e-4, atol=1e-4)
    assert set(load(bundle).run({"image": np.zeros((1, 3, 4, 4), np.float32)})) == {"y"}


def test_outputs_get_file_names_of_their_own():
    names = ["y", "a/b", "a_b", "A_B", "../x", "con", "NUL.txt", "é", "n" * 500, "n" * 501, ".."]
    safe = file_names(names)
    assert len({name.lower() for name in safe}) == len(names)
    assert safe[:3] == ["y", "a_b", "a_b_1"]
    for name in safe:
        assert "/" not in name and len(name) < 100 and not name.startswith(".")
        assert name.split(".")[0].upper() not in ("CON", "NUL")


def test_sizes_are_height_by_width():
    assert parse_size("480x640") == (480, 640)
    for text in ("480", "480x", "0x4", "-1x4", "4x5x6", "axb", "²x4"):
        with pytest.raises(UsageError, match=r"cannot be read\. Write HxW, as in 480x640"):
            parse_size(text)


def test_a_model_is_inspected_without_being_run(model_file, bundle):
    summary = inspect(model_file)
    assert isinstance(summary, ModelSummary)
    assert (summary.opset, summary.ir_version, summary.form) == (17, 8, "portable")
    assert summary.inputs == ["image: float (n, 3, h, w)"]
    assert summary.gates == ["node s1", "node s2"]
    row = summary.perforated[1]
    assert (row.name, row.kernel, row.dilations, row.mode) == ("node y", "3x3", "2x2", "add")
    assert (row.channels, row.activation, row.gate) == ("4 -> 4", "leaky_relu", "node s2")
    assert summary.parameters == 4 * 27 + 4 + 8 + 6 + 2 * 144
    assert inspect(bundle) == inspect(bundle / "manifest.json")
    with pytest.raises(UsageError, match="There is no file"):
        inspect(bundle / "none")

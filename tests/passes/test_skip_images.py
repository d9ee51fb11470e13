"""Images that a decision turns off are not computed; the others say what they always said."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pagdeploy import pipeline
from pagdeploy.graph.choice import Choice, lowerings_of
from pagdeploy.graph.gates import expose, force_selections, gates_of
from pagdeploy.graph.read import graphs_of
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.verbs.profile.candidates import perforated_convolutions
from pagdeploy.verbs.profile.dense_twin import open_gates
from tests.compare import assert_close
from tests.models import model_of, op_node, run_onnxruntime
from tests.passes.blocks import bottleneck, choosing, expected, operators

torch = pytest.importorskip("torch", reason="the networks are written in PyTorch")
from pagdeploy.exporters.models.catalogue import find  # noqa: E402

DECISIONS = [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 1]]


def feed_of(decisions, channels=6, height=5, width=7):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((len(decisions), channels, height, width), np.float32)
    return {"x": x, "s": np.array(decisions, np.int32).reshape(-1, 1, 1, 1)}


def lowered(model):
    return pipeline.lower(model, "gather")


@pytest.mark.parametrize("decisions", DECISIONS)
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("proven", [True, False])
def test_batches_all_on_all_off_and_mixed(decisions, mode, activation, proven):
    model = bottleneck(per_image=True, mode=mode, activation=activation, proven=proven)
    result = lowered(model)
    assert "If" in operators(result) and "Gemm" not in operators(result)
    feed = feed_of(decisions)
    assert_close(run_onnxruntime(result, feed)[0], expected(model, feed), 1e-5)


@pytest.mark.parametrize("decisions", DECISIONS[2:])
def test_an_image_does_not_depend_on_its_batch(decisions):
    """Bit for bit: the same dense convolutions serve one image, some and all."""
    result = lowered(bottleneck(per_image=True))
    feed = feed_of(decisions)
    together = run_onnxruntime(result, feed)[0]
    for number in range(len(decisions)):
        alone = {name: array[number : number + 1] for name, array in feed.items()}
        np.testing.assert_array_equal(together[number], run_onnxruntime(result, alone)[0][0])


def test_where_all_images_are_on_they_are_those_of_the_dense_network():
    model = bottleneck(per_image=True)
    feed = feed_of([1, 1])
    dense = run_onnxruntime(pipeline.lower(model, "dense"), feed)[0]
    np.testing.assert_array_equal(run_onnxruntime(lowered(model), feed)[0], dense)


def test_an_empty_batch_stays_empty():
    feed = feed_of([])
    assert run_onnxruntime(lowered(bottleneck(per_image=True)), feed)[0].shape == (0, 6, 5, 7)


def test_what_is_off_shows_its_base_bit_for_bit():
    feed = feed_of([0, 1, 0])
    y = run_onnxruntime(lowered(bottleneck(per_image=True, mode=0)), feed)[0]
    np.testing.assert_array_equal(y[[0, 2]], np.maximum(feed["x"][[0, 2]], 0))


@pytest.mark.parametrize("decisions", [[0, 1, 0], [1, 0, 1]])
def test_weights_that_overflow_stay_unseen_where_images_are_off(decisions):
    """An image that is off is not computed: its intermediate values are infinite or NaN."""
    model = bottleneck(per_image=True)
    feed = feed_of(decisions)
    off = feed["s"].reshape(-1) == 0
    feed["x"][off] = np.float32(3e38)
    y = run_onnxruntime(lowered(model), feed)[0]
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(y[off], feed["x"][off])
    nan = dict(feed, x=np.where(off.reshape(-1, 1, 1, 1), np.float32(np.nan), feed["x"]))
    again = run_onnxruntime(lowered(model), nan)[0]
    np.testing.assert_array_equal(again[~off], y[~off])
    assert np.isnan(again[off]).all()


def test_one_image_needs_no_part_for_mixed_batches():
    model = bottleneck(per_image=True, shape=(1, 5, 7), channels=64, inner=32)
    result = lowered(model)
    assert not {"ScatterND", "NonZero", "Gather", "Where"} & set(operators(result))
    kept = sum(
        numpy_helper.to_array(tensor).nbytes
        for graph in graphs_of(result)
        for tensor in graph.initializer
    )
    assert kept < 1.02 * sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    for decision in (0, 1):
        feed = feed_of([decision], 64)
        assert_close(run_onnxruntime(result, feed)[0], expected(model, feed), 1e-5)


def test_what_only_the_part_reads_goes_along_also_what_is_pooled():
    """A squeeze-and-excitation branch reads every pixel, but of one image."""
    model = squeezed()
    result = lowered(model)
    assert [node.op_type for node in result.graph.node if node.op_type != "Shape"] == [
        "Relu", "Equal", "Cast", "ReduceSum", "Greater", "If",
    ]  # fmt: skip
    for decisions in DECISIONS:
        feed = feed_of(decisions)
        assert_close(run_onnxruntime(result, feed)[0], expected(model, feed), 1e-5)


def test_what_another_node_reads_is_computed_for_all():
    model = squeezed()
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None))
    main = [node.op_type for node in lowered(model).graph.node]
    assert main.count("Conv") == 1 and "GlobalAveragePool" in main
    for decisions in DECISIONS:
        feed = feed_of(decisions)
        wanted = run_onnxruntime(attach_bodies(model), feed)
        for one, other in zip(run_onnxruntime(lowered(model), feed), wanted, strict=True):
            assert_close(one, other, 1e-5)


def gated_in_a_row(batch="n", reduce="ReduceMean", *, shown=False) -> onnx.ModelProto:
    """x -> Relu -> block -> block -> y; each is gated by the means of what it reads."""
    rng = np.random.default_rng(3)
    weights = {"axes": np.array([2, 3], np.int64)}
    nodes = [helper.make_node("Relu", ["x"], ["x0"])]
    inputs = ["axes"] if reduce == "ReduceMean" else []
    attributes = {"keepdims": 1} if inputs else {}
    for block in range(2):
        here, after = f"x{block}", f"x{block + 1}"
        weights |= {
            f"g{block}": rng.standard_normal((2, 6, 1, 1)).astype(np.float32),
            f"gb{block}": np.zeros(2, np.float32),
            f"w{block}": rng.standard_normal((6, 6, 1, 1)).astype(np.float32),
            f"b{block}": rng.standard_normal(6).astype(np.float32),
        }
        nodes += [
            helper.make_node(reduce, [here, *inputs], [f"mean{block}"], **attributes),
            helper.make_node("Conv", [f"mean{block}", f"g{block}", f"gb{block}"], [f"l{block}"]),
            op_node("PAGGate", [f"l{block}"], [f"s{block}"]),
            op_node("PerforatedConv", [here, f"s{block}", f"w{block}", f"b{block}", here], [after],
                    kernel_shape=[1, 1], mode=1, activation=1),
        ]  # fmt: skip
    outputs = {"x2": (TensorProto.FLOAT, [batch, 6, "h", "w"])}
    if shown:
        outputs["mean1"] = (TensorProto.FLOAT, [batch, 6, 1, 1])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    image = {"x": (TensorProto.FLOAT, [batch, 6, "h", "w"])}
    return model_of(nodes, image, outputs, initializers=constants, opset=18)


@pytest.mark.parametrize("reduce", ["ReduceMean", "GlobalAveragePool"])
@pytest.mark.parametrize("batch", [1, "n"])
def test_the_next_gate_finds_its_means_in_the_branches(batch, reduce):
    model = gated_in_a_row(batch, reduce)
    result = lowered(model)
    first, second = (node for node in result.graph.node if node.op_type == "If")
    assert (len(first.output), len(second.output)) == (2, 1)
    off = next(a.g for a in first.attribute if a.name == "else_branch")
    assert "GlobalAveragePool" not in [node.op_type for node in off.node], "the gate has read it"
    main = [node.op_type for node in result.graph.node]
    assert main.count(reduce) == 1, "of the first block's input"
    seen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((batch if batch == 1 else 3, 6, 5, 7), np.float32)
        names = ["s0", "s1"]
        engine, reference = (
            run_onnxruntime(expose(each, names), {"x": x})
            for each in (result, attach_bodies(model))
        )
        for one, other in zip(engine, reference, strict=True):
            assert_close(one, other, 1e-5)
        seen.update(np.stack(reference[1:3], axis=-1).reshape(-1, 2)[0])
    assert seen == {0, 1}


def test_means_that_are_shown_stay_where_they_are():
    result = lowered(gated_in_a_row(shown=True))
    assert [len(node.output) for node in result.graph.node if node.op_type == "If"] == [1, 1]
    feed = {"x": feed_of([0, 1])["x"]}
    wanted = run_onnxruntime(attach_bodies(gated_in_a_row(shown=True)), feed)
    for one, other in zip(run_onnxruntime(result, feed), wanted, strict=True):
        assert_close(one, other, 1e-5)


def squeezed() -> onnx.ModelProto:
    """x -> base -> 1x1, times what is pooled of it, 1x1 gated by image -> y."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((4, 6, 1, 1)), "b1": rng.standard_normal(4),
        "w2": rng.standard_normal((4, 4, 1, 1)), "b2": rng.standard_normal(4),
        "w3": rng.standard_normal((6, 4, 1, 1)), "b3": rng.standard_normal(6),
    }  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["x"], ["base"]),
        helper.make_node("Conv", ["base", "w1", "b1"], ["c1"]),
        helper.make_node("GlobalAveragePool", ["c1"], ["pooled"]),
        helper.make_node("Conv", ["pooled", "w2", "b2"], ["c2"]),
        helper.make_node("Sigmoid", ["c2"], ["gain"]),
        helper.make_node("Mul", ["c1", "gain"], ["scaled"]),
        op_node("PerforatedConv", ["scaled", "s", "w3", "b3", "base"], ["y"],
                kernel_shape=[1, 1], mode=1, activation=1),
    ]  # fmt: skip
    image = (TensorProto.FLOAT, ["n", 6, "h", "w"])
    return model_of(
        nodes,
        {"x": image, "s": (TensorProto.INT32, ["n", 1, 1, 1])},
        {"y": image},
        initializers=[numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )


def test_a_part_that_is_marked_dense_is_for_all_images(caplog):
    model = choosing(bottleneck(per_image=True), Choice("dense"))
    with caplog.at_level(logging.INFO, "pagdeploy.passes"):
        assert "If" not in operators(lowered(model))
    assert "for all images, marked dense" in caplog.text


def test_decisions_per_pixel_are_left_to_others():
    words = set(lowerings_of(lowered(bottleneck())).values())
    assert words == {"gather"}
    assert set(lowerings_of(lowered(bottleneck(per_image=True))).values()) == {"images"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BlockDrop", "ConvNet-AIG", "SkipNet"])
def test_published_networks_skip_whole_blocks(name, tmp_path):
    """Batches in which every block is on for some images, off for others, and all on or off."""
    system = find(name)
    (images,) = system.inputs(5, 64)
    path = tmp_path / "m.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            system.factory(), (images,), path, opset_version=18, dynamo=True, external_data=False,
            verbose=False, dynamic_shapes=[{0: torch.export.Dim("n")}],
        )  # fmt: skip
    portable = pipeline.recognise(onnx.load(path))
    names = [gate.selection for gate in gates_of(portable)]
    result, inferred = lowered(portable), pipeline.lower(portable, "plugin")
    switches = [node for node in result.graph.node if node.op_type == "If"]
    assert len(names) == len(switches) == system.gates
    engine, reference = (
        force_selections(model, names) for model in (result, pipeline.lower(portable, "dense"))
    )
    rng = np.random.default_rng(0)
    every = [rng.integers(0, 2, (len(names), 5)) for _ in range(4)]
    for rows in (*every, np.zeros((len(names), 5)), np.ones((len(names), 5))):
        forced = {
            name: np.asarray(row, np.int32).reshape(-1, 1, 1, 1)
            for name, row in zip(names, rows, strict=True)
        }
        feed = {portable.graph.input[0].name: images.numpy(), **forced}
        one, other = (run_onnxruntime(model, feed)[0] for model in (engine, reference))
        assert_close(one, other, 1e-5)
    runs = {node.input[1]: branch_of(node) for node in perforated_convolutions(inferred)}
    everything = {name: np.full((5, 1, 1, 1), runs[name], np.int32) for name in names}
    image = {portable.graph.input[0].name: images.numpy()}
    plain = pipeline.lower(open_gates(portable), "dense")
    assert not {"ArgMax", "Mul", "Where"} & set(operators(plain)), "no gates, no masks"
    assert_close(
        run_onnxruntime(plain, image)[0], run_onnxruntime(engine, image | everything)[0], 1e-5
    )


def branch_of(node):
    return next(attribute.i for attribute in node.attribute if attribute.name == "branch")


@settings(max_examples=40, deadline=None)
@given(
    decisions=st.lists(st.integers(0, 1), min_size=1, max_size=5),
    channels=st.sampled_from([1, 3, 16]),
    inner=st.sampled_from([2, 4, 16]),
    dilation=st.integers(1, 3),
    mode=st.integers(0, 1),
    activation=st.integers(0, 3),
    proven=st.booleans(),
    middle=st.sampled_from(["Relu", "Sigmoid", "Tanh"]),
    declared=st.booleans(),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_any_bottleneck(
    decisions, channels, inner, dilation, mode, activation, proven, middle, declared, size
):
    shape = (len(decisions), *size) if declared else ("n", "h", "w")
    model = bottleneck(
        channels=channels, inner=inner, dilation=dilation, shape=shape, per_image=True,
        mode=mode, activation=activation, proven=proven, middle=middle,
    )  # fmt: skip
    feed = feed_of(decisions, channels, *size)
    result = lowered(model)
    assert "images" in lowerings_of(result).values()
    assert_close(run_onnxruntime(result, feed)[0], expected(model, feed), 1e-5)


# What a decision per image can be multiplied into; the convolution behind it is the part's root.
_FORMS = {
    "a multiple of the mask": "t = Mul (m, two)\n y0 = Mul (c, t)\n y = Relu (y0)",
    "a share of it taken off": (
        "t = Mul (m, half)\n y0 = Sub (c, t)\n y1 = Mul (y0, m)\n y = Add (x, y1)"
    ),
    "half of it stays": "t = Mul (m, half)\n u = Add (t, half)\n y = Mul (c, u)",
    "a sign": "t = Mul (m, two)\n u = Sub (t, one)\n y = Mul (c, u)",
    "the mask within": "t = Add (m, half)\n v = Mul (c, t)\n e = Conv (v, w)\n y = Mul (e, m)",
}


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("batch", ["3", "n"])
def test_masks_within_a_part_belong_to_its_images(form, batch):
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        forms (float[{batch}, 4, 6, 6] x, float[{batch}, 1, 1, 1] g) => (float[{batch}, 4, 6, 6] y)
        <float zero = {{0}}, float half = {{0.5}}, float one = {{1}}, float two = {{2}},
         float[4, 4, 1, 1] w = {{1, 2, 0, 1, -1, 1, 2, 0, 0, 1, 1, 1, 2, -1, 0, 1}}> {{
            positive = Greater (g, zero)
            m = Cast <to = 1> (positive)
            c = Conv (x, w)
            {_FORMS[form]}
        }}"""
    model = onnx.parser.parse_model(text)
    x = np.random.default_rng(0).standard_normal((3, 4, 6, 6), np.float32)
    result = lowered(model)
    for decisions in DECISIONS:
        g = np.array(decisions, np.float32).reshape(-1, 1, 1, 1) - 0.5
        feed = {"x": x, "g": g}
        assert_close(run_onnxruntime(result, feed)[0], run_onnxruntime(model, feed)[0], 1e-5)


def test_a_decision_between_one_branch_is_none():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        single (float[2, 4, 6, 6] x, float[2, 1, 1, 1] g) => (float[2, 4, 6, 6] y)
        <int64 zero = {0}, int64[1] axis = {1},
         float[4, 4, 1, 1] w = {1, 2, 0, 1, -1, 1, 2, 0, 0, 1, 1, 1, 2, -1, 0, 1}> {
            s = ArgMax <axis = 1, keepdims = 1> (g)
            e = Equal (s, zero)
            m = Cast <to = 1> (e)
            c = Conv (x, w)
            q = Mul (c, m)
            y = Add (x, q)
        }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.standard_normal((2, 4, 6, 6), np.float32),
        "g": rng.standard_normal((2, 1, 1, 1), np.float32),
    }
    assert_close(run_onnxruntime(lowered(model), feed)[0], run_onnxruntime(model, feed)[0], 1e-5)

"""Moving quantization: each law alone, what must stay, and random graphs bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagdeploy.passes import drop_unused, move_quantization
from pagdeploy.precision import Precision

INTEGERS = Precision("int8", ranges={"a": (-1.0, 1.0)}, integer_kernels=True)
CONSTANTS = """float step = {0.25}, float other = {0.5}, uint8 zero = {3}, int8 signed = {0},
    int64[2] flat = {-1, 4}, int64[3] rows = {2, 0, 2}, int64[2, 1] places = {1, 0},
    int64[2] parts = {1, 2}, float[1, 4] nothing = {0, 0, 0, 0},
    float[1] one = {1}, uint8[1] none = {0}, float[1, 4] between = {0, 0.1, 0, 0},
    float[1, 4] negative = {-0.0, 0, 0, 0}"""


def parse(body: str, outputs: str = "float[a, b] y") -> ir.Model:
    """A model that reads x (3, 4), u (2, 4) and m (3, 4)."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        m (float[3, 4] x, float[2, 4] u, bool[3, 4] m) => ({outputs}) <{CONSTANTS}> {{ {body} }}"""
    return ir.from_proto(onnx.parser.parse_model(text))


def results(model: ir.Model) -> list[np.ndarray]:
    """As onnxruntime computes it, node by node as it is written."""
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.standard_normal((3, 4), np.float32) * 10,
        "u": rng.standard_normal((2, 4), np.float32) * 10,
        "m": rng.random((3, 4)) < 0.5,
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = {value.name for value in session.get_inputs()}
    return session.run(None, {name: array for name, array in feed.items() if name in names})


def moved(model: ir.Model) -> tuple[int, list[str]]:
    """The number of moves and the operators afterwards; both models say the same, bit for bit."""
    before = results(model)
    count = move_quantization.run(model, INTEGERS)
    drop_unused.run(model)
    for one, other in zip(before, results(model), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        assert np.array_equal(np.signbit(one), np.signbit(other)), "also of zeros"
    return count, [node.op_type for node in model.graph]


PAIR = "x8 = QuantizeLinear (x, step, zero) q = DequantizeLinear (x8, step, zero)"
UP = "y8 = QuantizeLinear (r, step, zero) y = DequantizeLinear (y8, step, zero)"


@pytest.mark.parametrize(
    "move",
    [
        "Reshape (q, flat)",
        "Transpose <perm = [1, 0]> (q)",
        "Gather <axis = 0> (q, rows)",
        "Identity (q)",
        "Gather <axis = 1> (q, rows)",
        "Concat <axis = 0> (q, q)",
        "Concat <axis = 0> (nothing, q)",
        "ScatterND (q, places, t)",
        "Where (m, q, q)",
    ],
)
def test_what_moves_numbers_moves_integers(move):
    more = "t8 = QuantizeLinear (u, step, zero) t = DequantizeLinear (t8, step, zero)"
    model = parse(f"{PAIR} {more if ', t)' in move else ''} y = {move}")
    count, ops = moved(model)
    assert count == 1
    assert ops[-1] == "DequantizeLinear" and ops.count("DequantizeLinear") == 1


def test_every_part_of_a_split_is_dequantized():
    model = parse(
        f"{PAIR} y, z = Split <axis = 0> (q, parts)", outputs="float[1, 4] y, float[2, 4] z"
    )
    count, ops = moved(model)
    assert count == 1
    assert ops == ["QuantizeLinear", "Split", "DequantizeLinear", "DequantizeLinear"]


@pytest.mark.parametrize(
    "body",
    [
        f"r = Transpose <perm = [1, 0]> (x) {UP}",
        f"r = Reshape (x, flat) {UP}",
        f"r = Concat <axis = 0> (x, u) {UP}",
        f"r = Where (m, x, nothing) {UP}",
        f"r = ScatterND (x, places, u) {UP}",
    ],
)
def test_what_is_quantized_later_is_quantized_first(body):
    count, ops = moved(parse(body))
    assert count == 1
    assert ops[0] == "QuantizeLinear" and ops[-1] == "DequantizeLinear"


def test_integers_that_come_back_are_not_rounded_again():
    count, ops = moved(parse(f"{PAIR} r = Transpose (q) {UP}"))
    assert count == 2
    assert ops == ["QuantizeLinear", "Transpose", "DequantizeLinear"]


def test_other_units_are_converted():
    body = "z8 = QuantizeLinear (q, other, zero) y = DequantizeLinear (z8, other, zero)"
    count, ops = moved(parse(f"{PAIR} {body}"))
    assert count == 0 and ops.count("QuantizeLinear") == 2


def test_a_size_needs_no_numbers():
    count, ops = moved(parse(f"{PAIR} s = Shape (q) y = Cast <to = 1> (s)", outputs="float[n] y"))
    assert count == 1 and "DequantizeLinear" not in ops


@pytest.mark.parametrize(
    "body",
    [
        f"{PAIR} y = Concat <axis = 0> (q, u)",  # one is not quantized
        f"{PAIR} y = Concat <axis = 0> (between, q)",  # 8 bits do not hold it
        f"{PAIR} y = Concat <axis = 0> (negative, q)",  # nor a negative zero
        f"{PAIR} t8 = QuantizeLinear (u, other, zero) t = DequantizeLinear (t8, other, zero)"
        " y = Concat <axis = 0> (q, t)",
        f"{PAIR} t8 = QuantizeLinear (u, step, signed) t = DequantizeLinear (t8, step, signed)"
        " y = Concat <axis = 0> (q, t)",
        f"{PAIR} y = Relu (q)",
        # onnxruntime 1.20 has no Where of int8.
        f"{PAIR.replace('zero', 'signed')} y = Where (m, q, q)",
        f"r = Where (m, x, nothing) {UP.replace('zero', 'signed')}",
        # A step of one element is not a scalar: it may belong to an axis.
        f"{PAIR.replace('step', 'one').replace('zero', 'none')} y = Transpose (q)",
        f"r = Gather <axis = 0> (x, rows) {UP}",  # few rows of a table are cheaper to round
        "r = Transpose <perm = [1, 0]> (x) y8 = QuantizeLinear (r, step, zero)"
        " t = DequantizeLinear (y8, step, zero) y = Add (t, r)",  # somebody reads it unrounded
    ],
)
def test_what_cannot_move_stays(body):
    assert moved(parse(body))[0] == 0


def test_a_scatter_that_adds_moves_nothing():
    body = f'{PAIR} y = ScatterND <reduction = "add"> (q, places, q2)'
    two = "q8 = QuantizeLinear (u, step, zero) q2 = DequantizeLinear (q8, step, zero)"
    assert moved(parse(f"{two} {body}"))[0] == 0
    assert moved(parse(f'r = ScatterND <reduction = "add"> (x, places, u) {UP}'))[0] == 0


def test_a_step_per_channel_does_not_move():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        m (float[3, 4] x) => (float[4, 3] y)
        <float[3] steps = {1, 2, 3}, uint8[3] zeros = {0, 0, 0}> {
        x8 = QuantizeLinear <axis = 0> (x, steps, zeros)
        q = DequantizeLinear <axis = 0> (x8, steps, zeros)
        y = Transpose (q) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert moved(model)[0] == 0


def test_an_output_keeps_its_name_and_type():
    model = parse(f"{PAIR} y = Transpose (q)")
    moved(model)
    (output,) = model.graph.outputs
    assert (output.name, output.dtype) == ("y", ir.DataType.FLOAT)


def test_float32_graphs_are_left_alone():
    model = parse(f"{PAIR} y = Transpose (q)")
    assert move_quantization.run(model) == 0
    assert move_quantization.run(model, Precision("int8", ranges={"a": (-1.0, 1.0)})) == 0


MOVES = (
    "Transpose <perm = [1, 0]> ({a})",
    "Identity ({a})",
    "Concat <axis = 0> ({a}, {b})",
    "Concat <axis = 1> ({a}, {b}, {a})",
    "Concat <axis = 0> ({a}, nothing)",
    "Gather <axis = 0> ({a}, rows)",
    "Where (m, {a}, {b})",
    "ScatterND ({a}, places, {b})",
    "Relu ({a})",
    "Add ({a}, {b})",
    "quantize zero step",
    "quantize signed step",
    "quantize zero other",
)


@st.composite
def bodies(draw) -> str:
    """A few operators on maps of the sizes that fit them; what does not fit is left out."""
    shapes: dict[str, tuple[int, int]] = {"x": (3, 4), "u": (2, 4)}
    lines = []
    for number in range(draw(st.integers(1, 12))):
        move = draw(st.sampled_from(MOVES))
        a, b = (draw(st.sampled_from(sorted(shapes))) for _ in range(2))
        name, shape = f"v{number}", shapes[a]
        if move.startswith("quantize"):
            _, zero, step = move.split()
            lines.append(f"{name}n = QuantizeLinear ({a}, {step}, {zero})")
            lines.append(f"{name} = DequantizeLinear ({name}n, {step}, {zero})")
            shapes[name] = shape
            continue
        if move.startswith("Transpose"):
            shape = shape[::-1]
        elif move.startswith("Concat <axis = 1>"):
            if shapes[b][0] != shape[0]:
                continue
            shape = (shape[0], 2 * shape[1] + shapes[b][1])
        elif move.startswith("Concat"):
            other = shapes[b] if "{b}" in move else (1, 4)
            if other[1] != shape[1]:
                continue
            shape = (shape[0] + other[0], shape[1])
        elif move.startswith("Gather"):
            if shape[0] < 3:
                continue
            shape = (3, shape[1])
        elif move.startswith("ScatterND"):
            if shapes[b] != (2, shape[1]) or shape[0] < 2:
                continue
        elif move.startswith("Where") and (shape != (3, 4) or shapes[b] != shape):
            continue
        elif move.startswith("Add") and shapes[b] != shape:
            continue
        lines.append(f"{name} = {move.format(a=a, b=b)}")
        shapes[name] = shape
    ends = draw(st.lists(st.sampled_from(sorted(shapes)), min_size=1, max_size=2, unique=True))
    lines += [f"y{number} = Identity ({end})" for number, end in enumerate(ends)]
    return " ".join(lines) + "|" + ", ".join(f"float[a{n}, b{n}] y{n}" for n in range(len(ends)))


@settings(max_examples=150, deadline=None)
@given(bodies())
def test_random_graphs_say_the_same_bit_for_bit(body):
    text, outputs = body.split("|")
    moved(parse(text, outputs))

"""Whatever a file holds, reading it gives a model or one sentence with a remedy."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pagdeploy.errors import IncompatibleArtifact, PagdeployError, UsageError
from pagdeploy.graph.read import check_model, name_nodes, read_model

PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n] x) => (float[n] y) { y = Relu (x) }"""
OURS = """<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
g (float[n, 2, 9, 9] x, int32[n, 1, 9, 9] s) => (float[n, 2, h, w] y)
<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] b = {5, 6}>
{ y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1], pads = [0, 0, 0, 0],
  dilations = [1, 1], group = 1, branch = 1, mode = 0, activation = 1, alpha = 0.0>
  (x, s, w, b, x) }"""


def write(tmp_path: Path, model: onnx.ModelProto | str | bytes) -> Path:
    """A file with the model in it."""
    path = tmp_path / "model.onnx"
    if isinstance(model, str):
        model = onnx.parser.parse_model(model)
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


@pytest.mark.parametrize("text", [PLAIN, OURS])
def test_sound_models_are_read(tmp_path, text):
    model = read_model(write(tmp_path, text))
    assert [node.output[0] for node in model.graph.node] == ["y"]


def test_missing_file_folder_and_impossible_name(tmp_path):
    for path in (tmp_path / "none.onnx", tmp_path, tmp_path / ("n" * 5000)):
        with pytest.raises(UsageError, match=r"There is no file .*\. Check the path\."):
            read_model(path)


def picture_bytes() -> bytes:
    """A PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (5, 5)).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"hello, world\n" * 9, picture_bytes(), bytes(range(256)) * 4, b"\x08\x08"],
    ids=["empty", "zeros", "text", "png", "all bytes", "no graph"],
)
def test_what_is_not_onnx_is_refused(tmp_path, content):
    with pytest.raises(
        IncompatibleArtifact, match=r"is not an ONNX model, or it .*Export it again"
    ):
        read_model(write(tmp_path, content))


def test_random_bytes_never_escape_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    for size in (1, 10, 100, 1000):
        with pytest.raises(IncompatibleArtifact):
            read_model(write(tmp_path, rng.bytes(size)))


def test_model_cut_at_any_byte_is_refused(tmp_path):
    whole = onnx.parser.parse_model(OURS).SerializeToString()
    for cut in range(0, len(whole), 3):
        try:
            read_model(write(tmp_path, whole[:cut]))
        except IncompatibleArtifact as error:
            assert error.remedy, cut
        else:  # an opset import that is cut off is the last thing in the file
            pytest.fail(f"the first {cut} of {len(whole)} bytes pass as a model")


def test_model_with_any_byte_changed_gives_a_model_or_our_error(tmp_path):
    whole = onnx.parser.parse_model(OURS).SerializeToString()
    refused = 0
    for at in range(0, len(whole), 4):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        try:
            read_model(write(tmp_path, bytes(damaged)))
        except PagdeployError:
            refused += 1
    assert refused > len(whole) // 8


def test_message_nested_beyond_reason_is_refused(tmp_path):
    graph = b""
    for _ in range(3000):  # NodeProto{attribute{g{node{...}}}}
        for key in (0x0A, 0x32, 0x2A):  # graph.node, attribute.g, node.attribute
            graph = bytes([key]) + varint(len(graph)) + graph
    with pytest.raises(IncompatibleArtifact, match="is not an ONNX model"):
        read_model(write(tmp_path, b"\x08\x08" + b"\x3a" + varint(len(graph)) + graph))


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Relu", "Blorp", r"neither ONNX nor pagdeploy defines: ai\.onnx::Blorp\."),
        ("y = Relu (x)", "y = Add (x, z) z = Relu (y)", "must be topologically sorted"),
        ("y = Relu (x)", "y = Add (x, nothing)", "not a valid ONNX model"),
        ("y = Relu (x)", "y = Relu (x) y = Relu (x)", "single static assignment"),
        ("y = Relu (x)", "z = Relu (x)", "not a valid ONNX model"),
        ("float[n] x", "string[n] x", "'x', which is no tensor of numbers"),
        ("float[n] x", "seq(float[n]) x", "'x', which is no tensor of numbers"),
    ],
)
def test_invalid_models_are_refused(tmp_path, old, new, text):
    with pytest.raises(IncompatibleArtifact, match=text):
        read_model(write(tmp_path, PLAIN.replace(old, new)))


def test_unknown_domain_is_refused(tmp_path):
    text = PLAIN.replace('"" : 17', '"" : 17, "theirs" : 1').replace("Relu", "theirs.Op")
    with pytest.raises(IncompatibleArtifact, match="theirs::Op"):
        read_model(write(tmp_path, text))


FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
g (float[n] x) => (float[n] y) { y = f.F (x) }
<domain: "f", opset_import: ["" : 17, "f" : 1, "pagdeploy" : 1]>
F (a) => (b) { b = BODY (a) }"""


def test_functions_of_other_domains_are_read(tmp_path):
    read_model(write(tmp_path, FUNCTION.replace("BODY", "Relu")))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("f.F", "has functions that call themselves"),
        ("Blorp", "No Op registered for Blorp"),
        ("pagdeploy.PAGGate", "uses our operators inside of its function 'F'. Inline its"),
    ],
)
def test_functions_that_cannot_be_used_are_refused(tmp_path, body, text):
    with pytest.raises(IncompatibleArtifact, match=text):
        read_model(write(tmp_path, FUNCTION.replace("BODY", body)))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("mode = 0, ", "", "The node '' .PerforatedConv. lacks the attribute 'mode'"),
        ("mode = 0", "mode = 0.5", "has the attribute 'mode' as 'float', not as 'int'"),
        ("mode = 0", 'mode = "add"', "has the attribute 'mode' as 'another kind', not as 'int'"),
        ("mode = 0", "mode = 7", r"has the mode 7, not one of 0 \(replace\), 1 \(add\)\."),
        ("activation = 1", "activation = 9", "has the activation 9, not one of 0"),
        ("pads = [0, 0, 0, 0]", "pads = [0, 0]", r"pads of PerforatedConv is \[0, 0\]"),
        ("pads = [0, 0, 0, 0]", "pads = [0, 0, -1, 0]", "pads of PerforatedConv is"),
        ("strides = [1, 1]", "strides = [0, 1]", r"strides of PerforatedConv is \[0, 1\]"),
        ("group = 1", "group = 0", "has 0 groups"),
        ("branch = 1", "branch = -1", "branches are counted from 0"),
        ("s, w, b, x)", "s, w, b)", "lacks the input 'base'"),
        ("s, w, b, x)", "s, w, , x)", "lacks the input 'B'"),
        ("s, w, b, x)", "s, w, b, x, x)", "has 6 inputs, not 5"),
        ("PerforatedConv", "PerforatedPool", "The op 'PerforatedPool' of the domain 'pagdeploy'"),
        ("[n, 1, 9, 9] s", "[n, 1, 5, 5] s", "selection of PerforatedConv is 5x5, but its output"),
        ("int32[n, 1, 9, 9] s", "int64[n, 1, 9, 9] s", "not a valid ONNX model"),
    ],
)
def test_malformed_nodes_of_ours_are_refused(tmp_path, old, new, text):
    assert old in OURS
    with pytest.raises(IncompatibleArtifact, match=text):
        read_model(write(tmp_path, OURS.replace(old, new)))


def external(tensor: TensorProto, location: str) -> TensorProto:
    """The tensor, its data said to lie in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["weights.bin", "../secret", "/etc/passwd", ""])
@pytest.mark.parametrize("place", ["initializer", "constant", "sparse", "function", "default"])
def test_weights_outside_of_the_file_are_refused(tmp_path, place, location):
    model = onnx.parser.parse_model(FUNCTION.replace("BODY", "Relu"))
    tensor = external(numpy_helper.from_array(np.zeros(4, np.float32), "w"), location)
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "sparse":
        model.graph.sparse_initializer.append(
            onnx.SparseTensorProto(values=tensor, indices=tensor, dims=[4])
        )
    elif place == "default":
        default = helper.make_attribute("k", tensor)
        model.functions[0].attribute_proto.append(default)
    else:
        nodes = model.graph.node if place == "constant" else model.functions[0].node
        nodes.append(helper.make_node("Constant", [], ["k"], value=tensor))
    with pytest.raises(IncompatibleArtifact, match="keeps the weight 'w' in another file"):
        read_model(write(tmp_path, model))


@pytest.mark.parametrize("dims", [[2**40, 2**40], [-1], [2**62, 4]])
def test_weights_that_claim_a_huge_size_are_refused(tmp_path, dims):
    model = onnx.parser.parse_model(PLAIN)
    tensor = TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT, raw_data=b"1234")
    model.graph.initializer.append(tensor)
    with pytest.raises(IncompatibleArtifact, match="not a valid ONNX model"):
        read_model(write(tmp_path, model))


def test_deeply_nested_subgraphs_do_not_crash(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "leaf", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )  # fmt: skip
    for depth in range(20):
        out = f"o{depth}"
        node = helper.make_node("If", ["yes"], [out], then_branch=inner, else_branch=inner)
        value = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        inner = helper.make_graph([node], f"level{depth}", [], [value])
        if inner.ByteSize() > 2_000_000:
            break
    inner.input.extend(
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("yes", TensorProto.BOOL, []),
        ]
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = write(tmp_path, model)
    code = (
        "import sys, pathlib; from pagdeploy.graph.read import read_model\n"
        "from pagdeploy.errors import PagdeployError\n"
        "try: read_model(pathlib.Path(sys.argv[1]))\n"
        "except PagdeployError: pass"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_every_node_gets_a_name_of_its_own():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y)'
        "{ a = Relu (x) b = Relu (a) c = Relu (b) y = Relu (c) }"
    )
    for node, name in zip(model.graph.node, ["", "same", "same", "c"], strict=True):
        node.name = name
    name_nodes(model)
    names = [node.name for node in model.graph.node]
    assert names == ["a", "same", "c_1", "c"]


@pytest.mark.parametrize(
    ("base", "branch", "sentence"),
    [
        ("float[2, 1, 1] base = {1, 2}", 1, "the base of the node 'c' has 3 axes, not 4"),
        ("float[1, 1, 1, 1] base = {1}", 2, "the node 'c' waits for branch 2 of a gate that has 2"),
    ],
)
def test_a_convolution_that_cannot_be_right_is_refused(base, branch, sentence):
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>
        m (float[n, 2, h, w] x) => (float[n, 2, h, w] y)
        <float[2, 2, 1, 1] w = {{1, 2, 3, 4}}, float[2] b = {{5, 6}}, {base}>
        {{
            s = pagdeploy.PAGGate (x)
            y = pagdeploy.PerforatedConv <kernel_shape = [1, 1], strides = [1, 1],
                pads = [0, 0, 0, 0], dilations = [1, 1], group = 1, branch = {branch}, mode = 0,
                activation = 1, alpha = 0.0> (x, s, w, b, base)
        }}
    """)
    model.graph.node[1].name = "c"
    with pytest.raises(IncompatibleArtifact, match=sentence):
        check_model(model, "m.onnx")

"""Inputs come from photos, arrays and shapes, whatever the files hold."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.verbs.inputs import (
    example_shapes,
    made_up_inputs,
    parse_inputs,
    parse_shapes,
    read_image,
    requested,
)

MODEL = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]>'
    "g (float[n, 3, h, w] image, int64[2] k, float[n, 7] v) => (float[n, 3, h, w] y)"
    "{ y = Relu (image) }"
)


@pytest.mark.parametrize(
    ("arguments", "shapes"),
    [
        (["x:1x3x8x9"], {"x": [1, 3, 8, 9]}),
        (["x:[1,3,8,9]"], {"x": [1, 3, 8, 9]}),
        (["x:[1, 3, 8, 9], y:2"], {"x": [1, 3, 8, 9], "y": [2]}),
        (["x:1x3,y:2x4", "z:5"], {"x": [1, 3], "y": [2, 4], "z": [5]}),
        (["a/b.c:1x2"], {"a/b.c": [1, 2]}),
        ([], {}),
    ],
)
def test_shapes_are_read_in_both_dialects(arguments, shapes):
    assert parse_shapes(arguments) == shapes


@pytest.mark.parametrize(
    "argument",
    [
        "1x3x8x8",
        "x:",
        f"x:1x{'9' * 5000}",
        "x:1x",
        "x:1x-3",
        "x:0x3",
        "x:axb",
        "x=1x3",
        "x:1x3;y:2",
        "x:[1,3",
    ],
)
def test_shapes_in_no_dialect_are_refused(argument):
    with pytest.raises(
        UsageError, match=re.escape(f"The shape {argument!r} cannot be read. Write")
    ):
        parse_shapes([argument])


def test_shapes_are_as_asked_else_as_exported_else_guessed():
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    assert example_shapes(model, {}) == {"image": [1, 3, 256, 256], "k": [2], "v": [1, 7]}
    noted = '{"image": [2, 3, 10, 12], "v": [4, 7]}'
    model.metadata_props.add(key="pagdeploy.example_shapes", value=noted)
    assert example_shapes(model, {"v": [5, 7]}) == {"image": [2, 3, 10, 12], "k": [2], "v": [5, 7]}


@pytest.mark.parametrize(
    "noted",
    ["", "{", "[1]", "7", '{"image": 3}', '{"image": ["a"]}', '{"image": [0]}', "[" * 99999],
)
def test_notes_of_the_exporter_that_make_no_sense_are_ignored(noted):
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    model.metadata_props.add(key="pagdeploy.example_shapes", value=noted)
    assert example_shapes(model, {})["image"] == [1, 3, 256, 256]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"other": [1]}, "given for 'other', which is not an input. The inputs are image, k, v."),
        (
            {"image": [1, 4, 8, 8]},
            "1x4x8x8 does not fit the input 'image'. The model wants ?x3x?x?",
        ),
        ({"image": [3, 8, 8]}, "The shape 3x8x8 does not fit the input 'image'."),
        ({"image": [1, 3, 10**6, 10**6]}, "of the input 'image' is too large. Give one of at most"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(asked, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        example_shapes(MODEL, asked)


def test_made_up_inputs_are_the_same_for_the_same_seed():
    shapes = {"image": [2, 3, 17, 19], "k": [2], "v": [1, 7]}
    one, same, other = (made_up_inputs(MODEL, shapes, seed) for seed in (0, 0, 1))
    assert {n: (a.dtype.name, a.shape) for n, a in one.items()} == {
        "image": ("float32", (2, 3, 17, 19)),
        "k": ("int64", (2,)),
        "v": ("float32", (1, 7)),
    }
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
    assert not np.array_equal(one["image"], other["image"])
    assert 0 <= one["image"].min() < 0.3 and 0.7 < one["image"].max() <= 1.0
    assert not one["k"].any()


def photo(path, mode="RGB", size=(6, 4)):
    """An image file whose first pixel is red."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0))
    image.convert(mode).save(path)
    return path


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "png"), ("RGBA", "png"), ("P", "gif")])
def test_photos_become_rgb_in_zero_to_one(tmp_path, mode, suffix):
    pixels = read_image(photo(tmp_path / f"p.{suffix}", mode))
    assert (pixels.dtype, pixels.shape) == (np.float32, (1, 3, 4, 6))
    assert pixels[0, :, 0, 0].tolist() == [1, 0, 0]
    assert pixels[0, :, 3, 5].tolist() == [0, 0, 1]


def test_grey_photos_and_other_sizes(tmp_path):
    grey = read_image(photo(tmp_path / "p.png", "L"))
    assert (grey[:, 0] == grey[:, 2]).all()
    assert read_image(tmp_path / "p.png", (8, 10)).shape == (1, 3, 8, 10)


def test_damaged_photos_are_refused(tmp_path):
    whole = photo(tmp_path / "p.png", size=(40, 40)).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:20]):
        (tmp_path / "q.png").write_bytes(content)
        with pytest.raises(
            IncompatibleArtifact, match=r"is not an image, or it is damaged\. Open it"
        ):
            read_image(tmp_path / "q.png")
    with pytest.raises(UsageError, match="There is no image"):
        read_image(tmp_path / "none.png")


def test_unreasonably_large_photos_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("pagdeploy.verbs.inputs._MAX_PIXELS", 1999)
    Image.new("1", (50, 40)).save(tmp_path / "p.png")
    with pytest.raises(UsageError, match=r"has 50 x 40 pixels\. Give an image of at most 1,999"):
        read_image(tmp_path / "p.png")


def test_unreasonably_large_sizes_are_refused(tmp_path):
    path = photo(tmp_path / "p.png")
    text = "p.png cannot be resized to 99999x99999. Give a size of at most 64,000,000 pixels."
    with pytest.raises(UsageError, match=re.escape(text)):
        read_image(path, (99999, 99999))
    with pytest.raises(UsageError, match=re.escape(text)):
        requested([f"image={path}"], ["image:1x3x99999x99999"], ["image"])


def test_arguments_name_their_input(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((1, 7), np.float32))
    photo(tmp_path / "p.png")
    given = parse_inputs([f"image={tmp_path}/p.png", f"v={tmp_path}/v.npy"], ["image", "v"])
    assert given["image"].shape == (1, 3, 4, 6)
    np.testing.assert_array_equal(given["v"], np.ones((1, 7)))
    np.savez(tmp_path / "all.npz", image=np.zeros(3), v=np.ones(2))
    assert set(parse_inputs([f"{tmp_path}/all.npz"], ["image", "v"])) == {"image", "v"}
    assert set(parse_inputs([f"{tmp_path}/p.png"], ["only"])) == {"only"}
    with pytest.raises(
        UsageError, match=r"names no input\. Write NAME=FILE; the inputs are image, v"
    ):
        parse_inputs([f"{tmp_path}/p.png"], ["image", "v"])


def test_photos_are_resized_to_the_asked_shape(tmp_path):
    path = photo(tmp_path / "p.png")
    given = requested([f"image={path}"], ["image:1x3x10x12"], ["image"])
    assert given is not None and given["image"].shape == (1, 3, 10, 12)
    assert requested([], ["image:1x3x10x12"], ["image"]) is None


def test_each_photo_is_resized_to_the_shape_of_its_own_input(tmp_path):
    path = photo(tmp_path / "p.png")
    both = [f"left={path}", f"right={path}"]
    given = requested(both, ["right:1x3x10x12"], ["left", "right"])
    assert given is not None and given["left"].shape == (1, 3, 4, 6)
    assert given["right"].shape == (1, 3, 10, 12)
    given = requested(both, ["right:1x3x10x12,left:1x3x7x8"], ["left", "right"])
    assert given is not None and given["left"].shape == (1, 3, 7, 8)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("image:2x3x8x8", "has the shape 1x3x8x8, not 2x3x8x8 as asked. Leave --shapes out, or"),
        ("image:1x1x8x8", "has the shape 1x3x8x8, not 1x1x8x8 as asked."),
        ("image:3x8x8", "has the shape 1x3x4x6, not 3x8x8 as asked."),
        ("x:1x3x8x8", "A shape is given for 'x', which is not an input. The inputs are image."),
    ],
)
def test_a_shape_that_the_input_does_not_have_is_refused(shape, text, tmp_path):
    path = photo(tmp_path / "p.png")
    with pytest.raises(UsageError, match=re.escape(text)):
        requested([f"image={path}"], [shape], ["image"])
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 9), np.float32))
    with pytest.raises(UsageError, match="1x3x8x9, not 1x3x8x8 as asked"):
        requested([f"image={tmp_path}/x.npy"], ["image:1x3x8x8"], ["image"])


def test_arrays_that_are_none_are_refused(tmp_path):
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(118)
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "z.npz", x=np.zeros(1))
    contents = {
        "empty": b"",
        "text": b"text",
        "huge": b"\x93NUMPY\x01\x00" + len(huge).to_bytes(2, "little") + huge,
        "pickle": (tmp_path / "o.npy").read_bytes(),
        "archive": (tmp_path / "z.npz").read_bytes(),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.npy"
        path.write_bytes(content)
        with pytest.raises(IncompatibleArtifact, match=r"is not a \.npy file of numbers"):
            parse_inputs([f"x={path}"], ["x"])
    with pytest.raises(UsageError, match="There is no file"):
        parse_inputs(["x=none.npy"], ["x"])


def test_numbers_are_scalars():
    given = parse_inputs(["budget=-0.5", "other=inf"], ["budget", "other"])
    assert {name: (array.shape, str(array.dtype)) for name, array in given.items()} == {
        "budget": ((), "float32"),
        "other": ((), "float32"),
    }
    assert (given["budget"].item(), given["other"].item()) == (-0.5, np.inf)
    with pytest.raises(UsageError, match="There is no image half"):
        parse_inputs(["budget=half"], ["budget"])


def test_a_scalar_is_a_knob_that_stands_at_zero_and_has_no_shape_to_choose():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float x, float[n] v) => (float[n] y)'
        "{ y = Add (x, v) }"
    )
    shapes = example_shapes(model, {"v": [4]})
    assert shapes == {"x": [], "v": [4]}
    made = made_up_inputs(model, shapes)
    assert (made["x"].shape, made["x"].dtype, made["x"].item()) == ((), np.float32, 0.0)

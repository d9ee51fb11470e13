"""The networks of the road, and the selections that are forced into them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
from onnx import numpy_helper

from road.cases import DENSITIES, Arrays
from road.weights import Cookbook, recipe_for

SIZE = (480, 640)
SMALL_SIZE = (64, 96)

_CONV = """pagdeploy.PerforatedConv <kernel_shape = [3, 3], strides = [1, 1],
    pads = [{d}, {d}, {d}, {d}], dilations = [{d}, {d}], group = 1, branch = 1, mode = {mode},
    activation = {activation}, alpha = 0.25>"""
_REPLACE = _CONV.format(d=1, mode=0, activation=1)
_ADD = _CONV.format(d=2, mode=1, activation=3)
_HEAD = '<ir_version: 8, opset_import: ["" : 17, "pagdeploy" : 1]>'

TINY = {
    "gate": f"""{_HEAD} gate (float[1, 7, 17, 23] logits) => (int32[1, 1, 17, 23] selection)
    {{ selection = pagdeploy.PAGGate (logits) }}""",
    "conv": f"""{_HEAD} conv (float[1, 16, 17, 23] x, int32[1, 1, 17, 23] s)
        => (float[1, 16, 17, 23] y)
    {{ y = {_REPLACE} (x, s, w1, bias, x) }}""",
    "both": f"""{_HEAD} both (float[1, 3, 17, 23] image) => (float[1, 16, 17, 23] y)
    {{
        x = Conv <pads = [1, 1, 1, 1]> (image, stem, bias)
        l1 = Conv (x, gate1)
        s1 = pagdeploy.PAGGate (l1)
        a = {_REPLACE} (x, s1, w1, bias, x)
        l2 = Conv (image, gate2)
        s2 = pagdeploy.PAGGate (l2)
        y = {_ADD} (a, s2, w2, bias, x)
    }}""",
}
TINY["dynamic"] = (
    TINY["both"]
    .replace("[1, 3, 17, 23]", "[n, 3, h, w]")
    .replace("[1, 16, 17, 23]", "[n, 16, h, w]")
)


@dataclasses.dataclass
class Network:
    """A portable model with what it is to be fed.

    Attributes:
        name: Of the network.
        group: Of the case.
        model: Portable.
        plain: The network trained without gates, if there is one.
        inputs: By the name of the feed.
        selections: To be forced, by the name of the feed; a feed without is decided by the network.
        densities: What the selections were made for, by the name of the feed.
        step: See Case.
        dynamic: See Case.
        cookbook: Of the weights that need not travel.
    """

    name: str
    group: str
    model: onnx.ModelProto
    inputs: dict[str, Arrays]
    plain: onnx.ModelProto | None = None
    selections: dict[str, Arrays] = dataclasses.field(default_factory=dict)
    densities: dict[str, float] = dataclasses.field(default_factory=dict)
    step: int = 1
    dynamic: bool = False
    cookbook: Cookbook = dataclasses.field(default_factory=Cookbook)


def hard_masks(height: int, width: int) -> dict[str, npt.NDArray[np.int32]]:
    """Selections of zeros and ones that kernels get wrong first."""
    empty = np.zeros((1, 1, height, width), np.int32)
    one_pixel, border = empty.copy(), empty.copy()
    one_pixel[0, 0, height // 2, width // 2] = 1
    border[0, 0, [0, -1], :] = border[0, 0, :, [0, -1]] = 1
    salt = np.random.default_rng(3).random(empty.shape) < 0.5
    masks = {"empty": empty, "full": empty + 1, "one pixel": one_pixel, "border": border}
    return masks | {"salt": salt.astype(np.int32)}


def tiny_networks() -> Iterator[Network]:
    """Gate alone, convolution alone, both; and both with open sizes."""
    rng = np.random.default_rng(0)
    shapes = {
        "stem": (16, 3, 3, 3), "bias": (16,), "gate1": (2, 16, 1, 1), "gate2": (2, 3, 1, 1),
        "w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3),
    }  # fmt: skip
    weights = {
        name: (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    models = {}
    for name, text in TINY.items():
        models[name] = onnx.parser.parse_model(text)
        read = {value for node in models[name].graph.node for value in node.input}
        for weight in sorted(read & set(weights)):
            models[name].graph.initializer.append(numpy_helper.from_array(weights[weight], weight))
        for node in models[name].graph.node:
            node.name = f"{name}.{node.output[0]}"

    def image(*shape: int) -> npt.NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    masks = hard_masks(17, 23)
    logits = image(1, 7, 17, 23)
    yield Network("gate", "tiny", models["gate"],
                  {"own": {"logits": logits}, "ties": {"logits": np.round(logits)}})  # fmt: skip
    x = image(1, 16, 17, 23)
    yield Network("conv", "tiny", models["conv"], {m: {"x": x, "s": s} for m, s in masks.items()})
    pixels = image(1, 3, 17, 23)
    yield Network(
        "both", "tiny", models["both"],
        {name: {"image": pixels} for name in ("own", *masks)},
        selections={name: {"s1": s, "s2": s[..., ::-1].copy()} for name, s in masks.items()},
    )  # fmt: skip
    yield Network(
        "dynamic", "tiny", models["dynamic"],
        {"17x23": {"image": pixels}, "2 of 24x9": {"image": image(2, 3, 24, 9)}},
        dynamic=True,
    )  # fmt: skip


def trained_network(size: tuple[int, int]) -> Network:
    """The trained rooms network on a rendered room that it has never seen."""
    from pagdeploy.examples.rooms.dataset import HELD_OUT_SEEDS
    from pagdeploy.examples.rooms.model import trained
    from pagdeploy.examples.rooms.scenes import render

    picture = render(HELD_OUT_SEEDS[0], *size).image[None]
    model = _export(trained("gated70"), size)
    network = Network("rooms-gated70", "trained", model, {"own": {"image": picture}}, step=4)
    network.plain = _export(trained("dense"), size)
    return _with_densities(network, picture)


def resnet50_network(size: tuple[int, int], small: bool) -> Network:
    """PAG-ResNet-50 with weights from a seed; small: the same structure, little of it."""
    import torch

    from pagdeploy.exporters.models.pag_resnet import DEPTHS, PAGResNet

    cookbook = Cookbook()
    blocks, width = ((1, 1, 1, 2), 8) if small else (DEPTHS[50], 64)
    models = []
    for gated in (True, False):
        module = PAGResNet(blocks, width, gated=gated).eval()
        with torch.no_grad():
            _fill(module, cookbook)
        models.append(_export(module, size))
    picture = recipe_for("image", 0.5).make((1, 3, *size)) + np.float32(0.5)  # in [0, 1)
    network = Network(
        "pag-resnet50", "resnet50", models[0], {"own": {"image": picture}}, models[1],
        step=8, cookbook=cookbook,
    )  # fmt: skip
    return _with_densities(network, picture)


def _fill(module: object, cookbook: Cookbook) -> None:
    """Weights from recipes; normalisations that change nothing, so that folding keeps the bytes."""
    import torch

    assert isinstance(module, torch.nn.Module)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eps = 0.0
    for name, tensor in module.state_dict().items():
        if tensor.ndim == 4:
            # He's variance; less in the last convolution of a block, or sums grow with depth.
            gain = 0.2 if ".conv3." in name else 2.0
            bound = math.sqrt(3 * gain / math.prod(tensor.shape[1:]))
            made = cookbook.make(recipe_for(name, bound), tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(made))
        elif name.endswith("bias"):
            made = recipe_for(name, 0.1).make(tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(made))


def _export(module: object, size: tuple[int, int]) -> onnx.ModelProto:
    import torch

    from pagdeploy.exporters.from_torch import export

    assert isinstance(module, torch.nn.Module)
    names = list(getattr(module, "tasks", ()))
    example = [torch.zeros(1, 3, *size)]
    fixed: onnx.ModelProto = export(
        module, example, input_names=["image"], output_names=names, dynamic_shapes={}
    )
    return fixed


def _with_densities(network: Network, picture: npt.NDArray[np.float32]) -> Network:
    """Add the feeds whose selections have a given share of active pixels."""
    for density in DENSITIES:
        name = f"density {density:g}"
        network.inputs[name] = {"image": picture}
        network.densities[name] = density
        network.selections[name] = forced_selections(network.model, density)
    return network


def forced_selections(model: onnx.ModelProto, density: float) -> Arrays:
    """For each gate a selection of that share of active pixels, spread like a learnt gate's.

    Of several branches that compute, each active pixel takes one at random.
    """
    from textures import selection

    from pagdeploy.graph.gates import gates_of
    from pagdeploy.ops.derive import register_schemas

    register_schemas()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    made = {}
    for seed, gate in enumerate(gates_of(model)):
        n, branches, h, w = shapes[gate.logits]
        computing = _computing_branches(model, gate.selection)
        passive = sorted(set(range(branches)) - set(computing)) or computing
        active = selection("pag", (n, h, w), density, seed, "cpu").numpy() == 1
        drawn = np.random.default_rng(seed).choice(computing, active.shape)
        made[gate.selection] = np.where(active, drawn, passive[0]).astype(np.int32)
    return made


def _computing_branches(model: onnx.ModelProto, selection: str) -> list[int]:
    return sorted(
        {
            attribute.i
            for node in model.graph.node
            if node.op_type == "PerforatedConv" and node.input[1] == selection
            for attribute in node.attribute
            if attribute.name == "branch"
        }
    )


def networks(groups: list[str], small: bool) -> Iterator[Network]:
    """The networks of the groups; small: at a size that a test can afford."""
    size = SMALL_SIZE if small else SIZE
    made: dict[str, Callable[[], Network]] = {
        "trained": functools.partial(trained_network, size),
        "resnet50": functools.partial(resnet50_network, size, small),
    }
    if "tiny" in groups:
        yield from tiny_networks()
    for group, make in made.items():
        if group in groups:
            yield make()

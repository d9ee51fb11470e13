"""PAG-ResNets at full size, exported with random weights, and what is made of them to be timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from cpu.masks import selection_of
from pagdeploy.graph.cost import Cost, count_cost
from pagdeploy.graph.gates import gates_of
from pagdeploy.graph.read import name_nodes, read_model
from pagdeploy.graph.steer import FORCED, steer
from pagdeploy.pipeline import lower
from pagdeploy.verbs.profile.candidates import branch_shares, perforated_convolutions
from pagdeploy.verbs.profile.dense_twin import open_gates

TASK = {"segmentation": 40}
INPUT = "image"
_RESIDUAL = 0.5  # of what a block adds: so values neither explode nor hide it
Selections = Mapping[str, npt.NDArray[np.int32]]


@dataclasses.dataclass(frozen=True)
class Network:
    """A PAG-ResNet with one head, at one size.

    Attributes:
        name: Of the row.
        blocks: Residual blocks of each stage.
        size: H and W of the image.
        width: Channels of the stem.
    """

    name: str
    blocks: tuple[int, int, int, int]
    size: tuple[int, int]
    width: int = 64

    def export(self, folder: Path) -> onnx.ModelProto:
        """The portable model, kept in a folder for the next process."""
        path = folder / f"{self.name}.onnx"
        if not path.exists():
            self._export(path)
        model = read_model(path)
        name_nodes(model)  # as lowering does, so that nodes are found again
        return model

    def _export(self, path: Path) -> None:
        import torch
        from torch import nn

        from pagdeploy.exporters.from_torch import export
        from pagdeploy.exporters.models.pag_resnet import Bottleneck, PAGResNet

        torch.manual_seed(0)
        module = PAGResNet(self.blocks, self.width, TASK).eval()
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        for part in module.modules():
            if isinstance(part, Bottleneck):
                part.conv3[0].weight.data.mul_(_RESIDUAL)
        image = torch.rand(1, 3, *self.size)
        export(module, [image], path, input_names=[INPUT], dynamic_shapes={})

    def image(self) -> npt.NDArray[np.float32]:
        """(1, 3, H, W), in [0, 1)."""
        return np.random.default_rng(0).random((1, 3, *self.size), np.float32)


NETWORKS = (
    Network("r50-480x640", (3, 4, 6, 3), (480, 640)),
    Network("r101-480x640", (3, 4, 23, 3), (480, 640)),
    Network("r50-512x1024", (3, 4, 6, 3), (512, 1024)),
    Network("r101-512x1024", (3, 4, 23, 3), (512, 1024)),
)
TINY = Network("tiny", (1, 1, 1, 2), (64, 96), width=16)  # to try the benchmark with


class Candidates:
    """A network's models, each with its selections as further inputs.

    Attributes:
        models: "dense", the same network without gates, every pixel computed; "masked", all
            branches computed and then chosen; and the engines by name.
    """

    def __init__(self, portable: onnx.ModelProto, lowerings: Mapping[str, str]) -> None:
        self._gates = {gate.selection: gate for gate in gates_of(portable)}
        self._perforated = lower(portable, "plugin")
        self._twin = open_gates(portable)
        sizes = _shapes_of(portable)
        self._sizes = {name: sizes[name] for name in self._gates}
        self._branches = {g.selection: sizes[g.logits][1] for g in self._gates.values()}
        read = {node.input[1] for node in perforated_convolutions(self._perforated)}
        assert read <= set(self._gates), "bounds count the selections of gates alone"
        self.models = {"dense": lower(self._twin, "dense")}
        for name, lowering in {"masked": "dense", **lowerings}.items():
            self.models[name] = steer(lower(portable, lowering), self._sizes)

    def selections(self, texture: str, density: float) -> dict[str, npt.NDArray[np.int32]]:
        """One for each gate, by the name of the input; MultiPool's pixels choose evenly."""
        found = {}
        for seed, (name, size) in enumerate(self._sizes.items()):
            branches = self._branches[name]
            share = density if branches == 2 else (branches - 1) / branches
            found[name + FORCED] = selection_of(texture, (size[2], size[3]), share, branches, seed)
        return found

    def bound(self, inputs: Mapping[str, npt.NDArray[np.generic]], selections: Selections) -> float:
        """Products of the plain network over those that the gated one needs, gates included.

        Args:
            inputs: The network's own.
            selections: As `selections` makes them.
        """
        sizes = {name: array.shape for name, array in inputs.items()}
        shares = {
            name: branch_shares(selections[name + FORCED], branches)
            for name, branches in self._branches.items()
        }
        needed: Cost = count_cost(self._perforated, sizes, shares)
        return count_cost(self._twin, sizes, {}).dense / needed.sparse


def _shapes_of(portable: onnx.ModelProto) -> dict[str, list[int]]:
    from pagdeploy.graph.cost import known_shapes

    inputs = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in portable.graph.input
    }
    return known_shapes(portable, inputs)[1]

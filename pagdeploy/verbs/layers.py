"""Layer by layer: what each one of the engine adds to the error, held to its operators' bound.

A layer ends at a value that reference and engine both compute by name; what lies in between was
fused or taken apart by the compiler. Decisions are forced, so that one flip near a tie does not
cascade. A layer is judged twice: its drift is its error in the running engine, all earlier layers
included; its own error is what it makes of the reference's inputs, and is held to the bound of its
operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pagdeploy.check.bounds import (
    ADDITIONS,
    UNKNOWN_TERMS,
    Operator,
    cancelled_steps,
    layer_bound,
)
from pagdeploy.check.compare import Comparison, compare
from pagdeploy.graph.cut import (
    between,
    float_values,
    nodes_between,
    shared_values,
    starts_of,
    with_channels_first,
)
from pagdeploy.graph.quantized import held_as_integers, with_floats
from pagdeploy.verbs.proof import run_lowered

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[Any]]
Runner = Callable[["onnx.ModelProto", Arrays], dict[str, npt.NDArray[Any]]]
Bounds = tuple[float, float]

_AT_ONCE = 16  # layers whose values are held in memory
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Layer:
    """One layer of the engine held to the reference's.

    Attributes:
        value: That it computes.
        nodes: Of the reference, as "name (operator)".
        own: Its error on the reference's inputs, and the bound of its operators.
        drift: Its error in the running engine, and the bound of the network; None where only the
            layer alone was run.
        low: Smallest finite number that it computes on the reference's inputs.
        high: Largest.
        not_finite: How many NaNs and infinities there are, where the reference has none.
        saturated: Share of values at or beyond the largest float16, where that is computed in.
        engine_nodes: Of the engine, as "name (operator)".
    """

    value: str
    nodes: tuple[str, ...]
    own: Comparison
    drift: Comparison | None
    low: float
    high: float
    not_finite: int
    saturated: float
    engine_nodes: tuple[str, ...]

    @property
    def largest(self) -> float:
        """Largest finite magnitude that it computes on the reference's inputs."""
        return max(-self.low, self.high)


class LayerView:
    """Reference and engine, cut at the values that both compute.

    Args:
        reference: The model in our ops as the lowering saw it, bodies attached.
        engine: Lowered.
        inputs: By name.
        decisions: The selections to force into both, by name.
        run: Runs an engine or a part of one.
        precision: Of the engine.
        bounds: Of a value in the running engine: its error's, and that of its root mean square.
        watched: Values that matter although, with decisions forced, nothing reads them: logits.
    """

    def __init__(
        self,
        reference: onnx.ModelProto,
        engine: onnx.ModelProto,
        inputs: Arrays,
        decisions: Arrays,
        run: Runner,
        precision: str,
        bounds: Bounds,
        watched: Sequence[str] = (),
    ) -> None:
        made = [name for node in reference.graph.node for name in node.output]
        first = with_channels_first(engine, made)
        held = held_as_integers(reference, first)
        rounded = {name: rounding for name, rounding in held.items() if rounding is not None}
        self.reference, self.engine = reference, with_floats(first, rounded)
        self._rounded = {name: rounding.rounded for name, rounding in rounded.items()}
        self.decided, self.bounds, self.watched = list(decisions), bounds, list(watched)
        self._inputs, self._run, self._precision = {**inputs, **decisions}, run, precision
        self._weights = {i.name: i for i in reference.graph.initializer}
        self._floats = float_values(reference)
        shared = shared_values(reference, self.engine)
        self.values = [name for name in shared if held.get(name, True) is not None]

    def layers(self, on_layer: Callable[[int, int], None] | None = None) -> list[Layer]:
        """Every layer, in the reference's order; `on_layer` hears of every tenth part."""
        found: list[Layer] = []
        for names in _chunks(self.values):
            starts = {name: self.starts(name) for name in names}
            wanted = {*names, *(s for each in starts.values() for s in each)}
            known = self.told(wanted.union(*(self._added(n, starts[n]) for n in names)))
            running = self.running(names)
            for name in names:
                drift = compare(name, running[name], known[name], *self.bounds)
                found.append(self._layer(name, starts[name], known, drift))
                if on_layer and len(found) % max(1, len(self.values) // 10) == 0:
                    on_layer(len(found), len(self.values))
        return found

    def layer(self, name: str) -> Layer:
        """The layer that ends at a value, alone."""
        starts = self.starts(name)
        known = self.told({name, *starts, *self._added(name, starts)})
        return self._layer(name, starts, known, None)

    def starts(self, name: str) -> list[str]:
        """What the layer that ends at a value begins with."""
        return starts_of(self.engine, self.decided, self.values, name)

    def told(self, names: set[str]) -> dict[str, npt.NDArray[Any]]:
        """What the reference says of some values, as float32; rounded where the engine's are."""
        asked = {name: self._rounded.get(name, name) for name in sorted(names)}
        ends = list(dict.fromkeys(asked.values()))
        answers = self._answers(run_lowered, self.reference, [], ends, self._inputs)
        return {name: answers[end] for name, end in asked.items()}

    def running(self, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """What the engine says of some values when it runs from its inputs on, as float32."""
        return self._answers(self._run, self.engine, [], names, self._inputs)

    def _answers(
        self,
        run: Runner,
        model: onnx.ModelProto,
        starts: Sequence[str],
        ends: Sequence[str],
        inputs: Arrays,
    ) -> dict[str, npt.NDArray[Any]]:
        if not ends:
            return {}
        part, renamed = _in_float32(between(model, [*self.decided, *starts], ends))
        for value in part.graph.input:  # a custom op's result has no shape, and a rank is wanted
            tensor = value.type.tensor_type
            if not tensor.HasField("shape"):
                rank = np.ndim(inputs[value.name])
                tensor.shape.dim.extend(_free_sizes(value.name, rank))
        answers = run(part, {renamed.get(name, name): array for name, array in inputs.items()})
        return {name: np.asarray(answers[renamed.get(name, name)], np.float32) for name in ends}

    def _layer(
        self, name: str, starts: Sequence[str], known: Arrays, drift: Comparison | None
    ) -> Layer:
        begin, nodes = [*self.decided, *starts], self._nodes(name, starts)
        operators = [self._operator(node) for node in nodes]
        bound = layer_bound(operators, self._precision, self._cancelled(nodes, name, known))
        told = known[name]
        given = {**self._inputs, **{s: known[s] for s in starts}}
        got = self._answers(self._run, self.engine, starts, [name], given)[name]
        fine = got[np.isfinite(got)]
        limit = LARGEST_HALF if self._precision == "fp16" else np.inf
        return Layer(
            value=name,
            nodes=tuple(map(described, nodes)),
            own=compare(name, got, told, bound),
            drift=drift,
            low=float(fine.min(initial=np.inf)) if fine.size else 0.0,
            high=float(fine.max(initial=-np.inf)) if fine.size else 0.0,
            not_finite=int((~np.isfinite(got) & np.isfinite(told)).sum())
            if got.shape == told.shape
            else 0,
            saturated=float((np.abs(got) >= limit).mean()) if limit < np.inf and got.size else 0.0,
            engine_nodes=tuple(map(described, nodes_between(self.engine, begin, name))),
        )

    def _nodes(self, name: str, starts: Sequence[str]) -> list[onnx.NodeProto]:
        return nodes_between(self.reference, [*self.decided, *starts], name)

    def _added(self, name: str, starts: Sequence[str]) -> set[str]:
        """What the additions of a layer read and make, as far as the reference computes it."""
        nodes = [node for node in self._nodes(name, starts) if node.op_type in ADDITIONS]
        values = {value for node in nodes for value in (*node.input, *node.output)}
        return (values & self._floats) - self._weights.keys() - self._inputs.keys()

    def _operator(self, node: onnx.NodeProto) -> Operator:
        held = (self._weights[name].dims for name in node.input if name in self._weights)
        shapes = [tuple(dims) for dims in held if len(dims) >= 2]
        if not shapes:
            return Operator(node.op_type, UNKNOWN_TERMS)
        # (Co, C/g, kh, kw); of a matrix either axis may be the one that is summed over.
        weight = shapes[0]
        return Operator(node.op_type, prod(weight[1:]) if len(weight) > 2 else max(weight))

    def _cancelled(self, nodes: Sequence[onnx.NodeProto], end: str, known: Arrays) -> float:
        """Steps that additions cost by cancelling, as far as they reach a layer's end."""
        steps: dict[str, float] = {}
        for node in nodes:
            read = dict.fromkeys(node.input)
            total = sum(steps.get(name, 0.0) for name in read)
            result = self._magnitude(node.output[0], known)
            if node.op_type in ADDITIONS and result:
                operands = [(self._magnitude(name, known), steps.get(name, 0.0)) for name in read]
                total = cancelled_steps(operands, result)
            steps.update(dict.fromkeys(node.output, total))
        return steps.get(end, 0.0)

    def _magnitude(self, name: str, known: Arrays) -> float:
        """The largest finite one; 0 if the value is not known."""
        from onnx import numpy_helper

        if name in self._weights:
            array = numpy_helper.to_array(self._weights[name])
        else:
            array = known.get(name, self._inputs.get(name, np.zeros(0)))
        finite = np.abs(array[np.isfinite(array)])
        return float(finite.max(initial=0.0))


def _free_sizes(name: str, rank: int) -> list[onnx.TensorShapeProto.Dimension]:
    import onnx

    free = onnx.TensorShapeProto.Dimension
    return [free(dim_param=f"{name}.{axis}") for axis in range(rank)]


def described(node: onnx.NodeProto) -> str:
    """A node as "name (operator)"."""
    return f"{node.name or node.output[0]} ({node.op_type})"


def _in_float32(part: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A part whose inputs and outputs of 16 bits are float32, and what these are called now.

    numpy has no bfloat16, and a runner hands float32 over.
    """
    import onnx

    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    renamed: dict[str, str] = {}
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    for values, casts in ((part.graph.input, before), (part.graph.output, after)):
        for value in values:
            tensor = value.type.tensor_type
            if tensor.elem_type not in halves:
                continue
            name = renamed[value.name] = f"{value.name}.f32"
            ends = (name, value.name) if casts is before else (value.name, name)
            to = tensor.elem_type if casts is before else onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [ends[0]], [ends[1]], to=to))
            value.name, tensor.elem_type = name, onnx.TensorProto.FLOAT
    nodes = [*before, *part.graph.node, *after]
    del part.graph.node[:]
    part.graph.node.extend(nodes)
    return part, renamed


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), _AT_ONCE):
        yield names[first : first + _AT_ONCE]

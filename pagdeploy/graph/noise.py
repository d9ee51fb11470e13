"""Sampling noise on the scores of gates: where it is drawn, added and read, and what it does.

A forward walk finds noise (what is made of uniform draws and constants alone), noisy scores (sums
of scores and noise, scaled, or behind a sigmoid or softmax), and the decisions that read them.
Noise that anything else reads is refused, and with it all noise that the same gate reads.

Without its noise a gate takes the most probable branch, if the noise favours none:

    argmax           every score has its own draw of the same noise: the largest score wins most
                     often, because two scores could swap their draws
    a threshold      the sum of the noise is as often above zero as below: logistic noise, the
                     difference of two Gumbel draws, softmax of two scores; one Gumbel draw is not
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.mask_operators import is_share
from pagdeploy.graph.masks import COMPARISONS
from pagdeploy.graph.perforate import readers_of
from pagdeploy.graph.quantiles import (
    FLOATS,
    Terms,
    drawn_by,
    is_even,
    is_gate_noise,
    made_of_draws,
    number_of,
    summed,
)
from pagdeploy.graph.randomness import UNIFORM, captured, draws, sources_behind
from pagdeploy.graph.residues import residue_of, stays_a_share
from pagdeploy.graph.shape_book import ShapeBook
from pagdeploy.graph.sizes import same_sizes

READ_ELSEWHERE = "more than the decision of a gate depends on its noise"
UNKNOWN = "its noise is neither Gumbel nor logistic"
DECIDES = "it draws a decision, rather than noise on the scores of one"
LEANS = "its noise favours a side of a threshold, so that more than noise would go with it"
OTHER_SIZE = "its noise is not provably of the size of the scores"
STILL_RANDOM = "the scores of its gate depend on random numbers that stay"


@dataclass(frozen=True)
class Noisy:
    """Scores with noise on them.

    Attributes:
        terms: The noise, as it is added to them.
        bent: Whether they are behind a sigmoid or softmax.
        axis: Of the softmax; None if there is none.
        branches: How many scores it compares; None if that is unknown.
    """

    terms: Terms
    bent: bool = False
    axis: int | None = None
    branches: int | None = None


@dataclass(frozen=True)
class Join:
    """Where noise meets scores.

    Attributes:
        node: An Add or Sub.
        index: Which of its operands the scores are.
        sources: What draws the noise.
        scores: Those that no noise has met yet.
    """

    node: ir.Node
    index: int
    sources: frozenset[ir.Node]
    scores: ir.Value


class GateNoise:
    """The noise of the main graph.

    Attributes:
        stays: What draws random numbers that cannot be removed, and why.
        joins: Where the other noise meets scores, in order.
    """

    def __init__(self, model: ir.Model) -> None:
        self.stays: dict[ir.Node, str] = {}
        self._sizes = ShapeBook(model)
        self._behind = sources_behind(model.graph)
        self._noise: dict[ir.Value, Terms] = {}
        self._noisy: dict[ir.Value, Noisy] = {}
        self._plain: dict[ir.Value, ir.Value] = {}  # scores before any noise, by noisy ones
        self._needs: dict[ir.Node, set[ir.Node]] = {}
        self._joins: list[Join] = []
        self._decides: set[ir.Node] = set()
        for node in model.graph:
            self._visit(node)
        for value in (*self._noise, *self._noisy):
            if value.is_graph_output():
                self._refuse(value, READ_ELSEWHERE)
        self._settle()
        self.joins = [join for join in self._joins if not join.sources & self.stays.keys()]

    def _settle(self) -> None:
        """All the noise of a gate goes, or none of it."""
        for source in {each for found in self._behind.values() for each in found}:
            if source not in self._decides:
                self.stays.setdefault(source, READ_ELSEWHERE)
        spreading = True
        while spreading:
            spreading = False
            for source, others in self._needs.items():
                if source not in self.stays and others & self.stays.keys():
                    self.stays[source] = STILL_RANDOM
                    spreading = True

    def _terms(self, value: ir.Value | None) -> Terms:
        if value is None:
            return {}
        return self._noisy[value].terms if value in self._noisy else self._noise.get(value, {})

    def _sources(self, value: ir.Value | None) -> frozenset[ir.Node]:
        return frozenset() if value is None else self._behind.get(value, frozenset())

    def _refuse(self, value: ir.Value | None, why: str) -> None:
        for source in self._terms(value):
            self.stays.setdefault(source, why)

    def _visit(self, node: ir.Node) -> None:
        for value in captured(node):
            self._refuse(value, READ_ELSEWHERE)
        out = node.outputs[0] if node.outputs else None
        if out is None:
            return
        if node in self._sources(out):
            self._draw(node, out)
            return
        if not any(map(self._terms, node.inputs)) or node.op_type in ("Shape", "Size"):
            return
        if self._cancels(node):
            return
        if not node.domain and len(node.outputs) == 1:
            noise = None
            if any(value in self._noise for value in node.inputs):
                noise = made_of_draws(node, self._noise)
            if noise:
                self._noise[out] = noise
                return
            noisy = self._scores(node)
            if noisy is not None:
                self._noisy[out] = noisy
                return
        why = self._misread(node)
        for read in node.inputs:
            if why is None:
                self._decides.update(self._terms(read))
            else:
                self._refuse(read, why)

    def _draw(self, node: ir.Node, out: ir.Value) -> None:
        """Note what a node draws; only a uniform draw may become noise that goes."""
        for value in node.inputs:
            if node.op_type not in ("RandomNormalLike", "RandomUniformLike"):
                self._refuse(value, READ_ELSEWHERE)
        if node.domain or node.op_type not in UNIFORM or not draws(node):
            drawn = not node.domain and node.op_type in ("Bernoulli", "Multinomial")
            self.stays[node] = DECIDES if drawn else UNKNOWN
            return
        self._noise[out] = {node: drawn_by(node)}

    def _cancels(self, node: ir.Node) -> bool:
        """Whether a node is a part of a straight-through residue, which a share does not change."""
        found = residue_of(node)
        if found is not None:
            return self._is_residue(found.soft, found.hard)
        if node.domain or node.op_type not in ("Add", "Sub") or node.outputs[0].is_graph_output():
            return False
        closing = [residue_of(reader) for reader in readers_of(node.outputs[0])]
        if not closing or any(use.node.graph is not node.graph for use in node.outputs[0].uses()):
            return False
        return all(
            each is not None and {each.hard, each.soft} == set(node.inputs) and
            self._is_residue(each.soft, each.hard)
            for each in closing
        )  # fmt: skip

    def _is_residue(self, soft: ir.Value, hard: ir.Value) -> bool:
        return soft in self._noisy and not self._terms(hard) and stays_a_share(soft)

    def _scores(self, node: ir.Node) -> Noisy | None:
        """What a node makes of scores and noise, if decisions can be read off it as before."""
        out, first = node.outputs[0], node.inputs[0] if node.inputs else None
        noisy = None if first is None else self._noisy.get(first)
        if node.op_type in ("Add", "Sub"):
            return self._added(node)
        if node.op_type in ("Mul", "Div"):
            return self._scaled(node)
        if noisy is None:
            return None
        if node.op_type == "Identity" or (node.op_type == "Cast" and out.dtype in FLOATS):
            return noisy
        if node.op_type == "Neg":
            return replace(noisy, terms={s: -term for s, term in noisy.terms.items()})
        if noisy.bent:
            return None
        if node.op_type == "Sigmoid":
            return replace(noisy, bent=True)
        sizes = self._sizes.of(first)
        if node.op_type not in ("Softmax", "LogSoftmax") or sizes is None:
            return None
        axis = node.attributes.get_int("axis", -1) % len(sizes)
        branches = sizes[axis].expression
        number = branches if isinstance(branches, int) else None
        return Noisy(noisy.terms, bent=True, axis=axis, branches=number)

    def _scaled(self, node: ir.Node) -> Noisy | None:
        """Noisy scores times or divided by a number, such as a temperature."""
        for index, other in ((0, 1), (1, 0)) if node.op_type == "Mul" else ((0, 1),):
            value, by = node.inputs[index], node.inputs[other]
            number = None if by is None else number_of(by)
            if value in self._noisy and number is not None and number != 0:
                noisy = self._noisy[value]
                scale = float(number) if node.op_type == "Mul" else 1 / float(number)
                return replace(noisy, terms={s: scale * term for s, term in noisy.terms.items()})
        return None

    def _added(self, node: ir.Node) -> Noisy | None:
        """Scores and noise, noisy scores and other scores, or two noisy ones."""
        left, right = node.inputs
        if left is None or right is None:
            return None
        for index, (scores, other) in enumerate(((left, right), (right, left))):
            if other in self._noise and scores not in self._noise:
                return self._joined(node, index, scores, other)
        bent = [self._noisy[v].bent for v in (left, right) if v in self._noisy]
        numbers = [v for v in (left, right) if number_of(v) is not None]
        if any(bent) and not numbers:
            return None
        terms = summed(node, self._terms(left), self._terms(right))
        if terms is None or not self._is_apart(left, right):
            return None
        self._couple(terms, left, right)
        kept = next(self._noisy[v] for v in (left, right) if v in self._noisy)
        return replace(kept, terms=terms)

    def _joined(self, node: ir.Node, index: int, scores: ir.Value, noise: ir.Value) -> Noisy | None:
        known, added = self._noisy.get(scores), self._noise[noise]
        if not all(map(is_gate_noise, added.values())):
            self._refuse(noise, UNKNOWN)
            self._refuse(scores, STILL_RANDOM)
            return Noisy({**added, **self._terms(scores)})
        if not same_sizes(self._sizes.of(scores), self._sizes.of(node.outputs[0])):
            self._refuse(noise, OTHER_SIZE)
        if (known is not None and known.bent) or not self._is_apart(scores, noise):
            return None
        first, second = (scores, noise) if index == 0 else (noise, scores)
        terms = summed(node, self._terms(first), self._terms(second))
        if terms is None:
            return None
        self._couple(terms, scores)
        plain = self._plain.get(scores, scores)
        self._plain[node.outputs[0]] = plain
        self._joins.append(Join(node, index, frozenset(added), plain))
        return Noisy(terms)

    def _is_apart(self, left: ir.Value, right: ir.Value) -> bool:
        """Whether neither of two operands depends on the noise of the other one."""
        return not (
            self._terms(left).keys() & self._sources(right)
            or self._terms(right).keys() & self._sources(left)
        )

    def _couple(self, terms: Terms, *operands: ir.Value | None) -> None:
        """Noise goes only if all that its decision depends on goes."""
        others = {source for value in operands for source in self._sources(value)} | terms.keys()
        for source in terms:
            self._needs.setdefault(source, set()).update(others)

    def _misread(self, node: ir.Node) -> str | None:
        """Why a reader of noise or of noisy scores is no decision that may lose it."""
        if node.domain:
            return READ_ELSEWHERE
        if node.op_type in COMPARISONS:
            return self._threshold(node)
        if any(value in self._noise for value in node.inputs):
            return READ_ELSEWHERE
        value = node.inputs[0]
        noisy = None if value is None else self._noisy.get(value)
        if noisy is None or value is None or any(v in self._noisy for v in node.inputs[1:]):
            return READ_ELSEWHERE
        self._couple(noisy.terms, value)
        if node.op_type == "Round":
            return _lean(noisy) if is_share(value) else READ_ELSEWHERE
        sizes = self._sizes.of(value)
        if node.op_type not in ("ArgMax", "ArgMin", "TopK") or sizes is None:
            return READ_ELSEWHERE
        axis = node.attributes.get_int("axis", -1 if node.op_type == "TopK" else 0) % len(sizes)
        if noisy.axis not in (None, axis):
            return READ_ELSEWHERE
        if node.op_type == "TopK":
            count, values = constant_of(node.inputs[1]), node.outputs[0]
            single = count is not None and count.size == 1 and count.ravel()[0] == 1
            if not single or values.uses() or values.is_graph_output():
                return READ_ELSEWHERE
        return None

    def _threshold(self, node: ir.Node) -> str | None:
        """Why a comparison may not lose the noise of what it compares."""
        left, right = node.inputs
        if left is None or right is None or left in self._noise or right in self._noise:
            return DECIDES
        known = [self._noisy[v] for v in (left, right) if v in self._noisy]
        if not self._is_apart(left, right):
            return READ_ELSEWHERE
        self._couple({s: t for noisy in known for s, t in noisy.terms.items()}, left, right)
        if len(known) == 1:
            return _lean(known[0])
        if any(noisy.bent for noisy in known):
            return READ_ELSEWHERE
        one, other = known
        return _lean(Noisy({**one.terms, **{s: -term for s, term in other.terms.items()}}))


def _lean(noisy: Noisy) -> str | None:
    """Why noise before a threshold is not as often above zero as below, if it is not."""
    if noisy.axis is not None:  # p > c is a threshold on the difference of two scores
        return None if noisy.branches == 2 else LEANS
    return None if is_even(list(noisy.terms.values())) else LEANS

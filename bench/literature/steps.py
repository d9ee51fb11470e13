"""The road of one network: export, build and verify, count, time.

Each step leaves files in a folder, the one that tells that it is done last, and is left out where
they lie already: a road can be interrupted, and timed later on a machine that does nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from literature.row import LOWERINGS, Row
from pagdeploy.bundle import MODEL, open_bundle
from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.engines import engine_named
from pagdeploy.errors import PagdeployError
from pagdeploy.files import replacing_file
from pagdeploy.graph.cost import count_cost
from pagdeploy.graph.gates import expose
from pagdeploy.graph.read import read_model
from pagdeploy.graph.steer import steer
from pagdeploy.measure.timing import time_in_turn
from pagdeploy.verbs.build import build
from pagdeploy.verbs.profile.candidates import (
    ENGINE,
    MASKED,
    PLAIN,
    Candidates,
    forced_inputs,
    load_candidates,
    perforated_convolutions,
)
from pagdeploy.verbs.session import op_libraries, open_session
from pagdeploy.verbs.verify import verify

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pagdeploy.engines.base import Session
    from pagdeploy.exporters.models.catalogue import System

OPSET = 18
# Images that gates are settled on: those of one decision an image, and those of many.
FEW_DECISIONS, MANY_DECISIONS = 8, 2
_ROUNDS, _SECONDS = 61, 30.0  # of timing, whichever ends first
_ROUNDING = 3e-7  # of an image's values: what another order of summation makes of a layer's
EXPORT, BUILD, TIMES = "export", "build", "times"
STEPS = (EXPORT, BUILD, TIMES)
_MODEL, _SAMPLE, _FEEDS, _COUNTS = "m.onnx", "sample.npz", "feeds.npz", "counts.json"
_IMAGE, _ANSWER = "image ", "answer "  # what names in the sample begin with
_WOBBLE = "wobble"  # by how much PyTorch differs from itself on the first image
_TOUCHY = 4.0  # times that, an engine may: each of its layers rounds in an order of its own
Feeds = Mapping[str, "np.ndarray[Any, Any]"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        full: The published size.
        engines: Names in LOWERINGS, at least one.
        density: Instead of the published one.
        size: Height and width of the images, instead of the network's own.
        until: The last step.
        half: Force every other gate to its first branch, and the others to their second.
    """

    full: bool
    engines: tuple[str, ...]
    density: float | None = None
    size: tuple[int, int] | None = None
    until: str = TIMES
    half: bool = False


def take(system: System, folder: Path, options: Options) -> Row:
    """Take one network down the road.

    Args:
        system: From the catalogue.
        folder: Where files are left; what lies there is taken for this network's, and for these
            options'.
        options: See there.
    """
    gates = system.full_gates if options.full else system.gates
    perforable = system.full_perforable if options.full else system.perforable
    row = Row(system.name, gates_expected=gates, perforable=perforable)
    if not (folder / _SAMPLE).exists():
        _export(system, folder, options)
    if options.until == EXPORT:
        return dataclasses.replace(row, reason="it was only exported")
    try:
        verdicts = [_build(folder, engine) for engine in options.engines]
        if not (folder / _COUNTS).exists():
            _count(system, folder, options)
    except PagdeployError as problem:
        return dataclasses.replace(row, reason=problem.message)
    row = dataclasses.replace(
        row,
        gates_found=verdicts[0]["gates"],
        verified=not any(verdict["reason"] for verdict in verdicts),
        error=max(verdict["error"] for verdict in verdicts),
        reason=next((verdict["reason"] for verdict in verdicts if verdict["reason"]), ""),
        **json.loads((folder / _COUNTS).read_text()),
    )
    if options.until != TIMES or not row.verified:
        return row
    if not options.half:
        return dataclasses.replace(row, milliseconds=_time(folder, options.engines, {}))
    decisions, needed = _every_other(folder, options.engines[0])
    times = _time(folder, options.engines, decisions)
    return dataclasses.replace(row, macs_needed=needed, milliseconds=times)


def _export(system: System, folder: Path, options: Options) -> None:
    """Write the ONNX file, the images, and what PyTorch says to the first one."""
    import torch

    torch.manual_seed(0)
    network, images = _network(system, options)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images, wobble = _steady_first(network, images)
        first = tuple(each[:1].contiguous() for each in images)
        answers = network(*first)
        program = torch.onnx.export(network, first, opset_version=OPSET, dynamo=True, verbose=False)
        program.save(folder / _MODEL, external_data=False)
    answers = answers if isinstance(answers, tuple) else (answers,)
    names = [value.name for value in program.model.graph.inputs]
    arrays = {_IMAGE + name: image.numpy() for name, image in zip(names, images, strict=True)}
    arrays |= {f"{_ANSWER}{k}": answer.numpy() for k, answer in enumerate(answers)}
    _write_arrays(folder / _SAMPLE, {**arrays, _WOBBLE: np.array(wobble)})


def _network(system: System, options: Options) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network, and inputs, the images in their first axis."""
    network = (system.full_size if options.full else system.factory)()
    size = options.size or (system.full_size_side if options.full else system.size)
    if not options.full and options.density is None and options.size is None:
        return network, system.inputs(1, size)
    few = system.granularity == "image"
    images = system.inputs(FEW_DECISIONS if few else MANY_DECISIONS, size)
    if (system.full_gates if options.full else system.gates) > 0:
        from pagdeploy.exporters.models.parts import settle

        settle(network, images, _density(system, options), norms=False)
    return network, images


def _steady_first(
    network: nn.Module, images: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], float]:
    """The images, or mirrored ones, the first one that a rounding changes least; and how much.

    Among a hundred thousand decisions some may be so near a tie that another order of summation
    turns them, and all that follows: PyTorch would differ from itself. A soft network that nobody
    trained may be as touchy everywhere.

    Returns:
        The images, and the largest difference to itself on the first, of the output's scale.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    best, least = images, float("inf")
    for axes in ((), (3,), (2,), (2, 3)):
        mirrored = tuple(each.flip(axes) if axes else each for each in images)
        for k in range(len(images[0])):
            image = [each[k : k + 1] for each in mirrored]
            noise = [_ROUNDING * torch.randn(image[0].shape, generator=generator) for _ in "123"]
            itself = network(*image)
            shaken = [network(image[0] * (1 + each), *image[1:]) for each in noise]
            wobble = max(_apart(itself, other) for other in shaken)
            if wobble < least:
                best, least = tuple(each.roll(-k, 0) for each in mirrored), wobble
            if least <= NETWORK_BOUNDS["fp32"]:
                return best, least
    return best, least


def _apart(ours: Tensor | tuple[Tensor, ...], theirs: Tensor | tuple[Tensor, ...]) -> float:
    pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (ours, theirs)), strict=True)
    bound = NETWORK_BOUNDS["fp32"]
    return max(compare("", a.numpy(), b.numpy(), bound).error for a, b in pairs)


def _density(system: System, options: Options) -> float:
    return system.published_density if options.density is None else options.density


def _build(folder: Path, engine: str) -> dict[str, Any]:
    """Build and verify an engine; returns its gates, largest error, and why it is wrong, or ""."""
    verdict, bundle = folder / f"{engine}.json", folder / f"{engine}.pagbundle"
    if not verdict.exists():
        # Of a network that is recognised already, the bundle holds the model in our ops.
        others = [folder / f"{each}.pagbundle" / MODEL for each in LOWERINGS if each != engine]
        source = next((model for model in others if model.exists()), folder / _MODEL)
        first, answers = _feeds(folder)[0], _arrays(folder, _ANSWER).values()
        build(source, bundle, engine="onnxruntime", lowering=LOWERINGS[engine], inputs=first)
        verification = verify(bundle)
        told: dict[str, Any] = {
            "gates": len(verification.gates), "error": 0.0, "reason": verification.reason or "",
        }  # fmt: skip
        if not told["reason"]:
            outputs = open_session(open_bundle(bundle)).run(first)
            (wobble,) = _arrays(folder, _WOBBLE).values()
            bound = max(NETWORK_BOUNDS["fp32"], _TOUCHY * float(wobble))
            told["error"] = max(
                compare(name, ours, theirs, bound).error
                for (name, ours), theirs in zip(outputs.items(), answers, strict=False)
            )
            if told["error"] > bound:
                told["reason"] = "it does not say what PyTorch says"
        _write_json(verdict, told)
    found: dict[str, Any] = json.loads(verdict.read_text())
    return {**found, "reason": found["reason"] and f"{engine}: {found['reason']}"}


def _count(system: System, folder: Path, options: Options) -> None:
    """Write the counts of the row, the image that is timed, and the two baselines."""
    bundle = open_bundle(folder / f"{options.engines[0]}.pagbundle")
    candidates = load_candidates(bundle, threads=0, host_code=False)
    every = _feeds(folder)
    feeds = every[0]
    if options.full and system.granularity == "image" and len(candidates.gates) > 0:
        feeds = _most_typical(candidates, every, _density(system, options))
    shapes = {name: array.shape for name, array in feeds.items()}
    shares = candidates.shares(feeds, candidates.decisions(feeds))
    cost = count_cost(candidates.perforated, shapes, shares)
    for name in (PLAIN, MASKED):
        content = candidates.models[name].SerializeToString()
        _baseline(folder, name).write_bytes(content)
    _write_arrays(folder / _FEEDS, dict(feeds))
    counts = {
        "perforated": len(perforated_convolutions(candidates.perforated)),
        "macs_dense": count_cost(candidates.twin, shapes, {}).dense,
        "macs_masked": cost.dense,
        "macs_needed": cost.sparse,
    }
    _write_json(folder / _COUNTS, counts)


def _most_typical(candidates: Candidates, every: Sequence[Feeds], density: float) -> Feeds:
    """The image that most nearly the wanted share of the blocks run for."""
    names = [gate.selection for gate in candidates.gates]
    content = expose(candidates.models[ENGINE], names).SerializeToString()
    shown = engine_named("onnxruntime").load(content, plugins=candidates.libraries)

    def distance(feeds: Feeds) -> float:
        answers = shown.run(feeds)
        return abs(float(np.mean([answers[name].mean() for name in names])) - density)

    return min(every, key=distance)


def _every_other(folder: Path, engine: str) -> tuple[Feeds, float]:
    """Decisions that turn every other gate off, and the multiply-adds that these ask for."""
    bundle = open_bundle(folder / f"{engine}.pagbundle")
    candidates = load_candidates(bundle, threads=0, host_code=False)
    feeds = _timed_feeds(folder)
    own = candidates.decisions(feeds)
    decisions = {
        gate.selection: np.full_like(own[gate.selection], k % 2)
        for k, gate in enumerate(candidates.gates)
    }
    shapes = {name: array.shape for name, array in feeds.items()}
    cost = count_cost(candidates.perforated, shapes, candidates.shares(feeds, decisions))
    return decisions, cost.sparse


def _time(folder: Path, engines: Sequence[str], decisions: Feeds) -> dict[str, float]:
    """Median milliseconds of the engines and of both baselines, on the same image, in turn.

    Args:
        folder: With everything built.
        engines: Their names.
        decisions: What gates are forced to, by the selection's name; still, they are computed.
    """
    models = {name: read_model(_baseline(folder, name)) for name in (PLAIN, MASKED)}
    libraries: dict[str, Sequence[Path]] = {}
    for engine in engines:
        bundle = open_bundle(folder / f"{engine}.pagbundle")
        models[engine] = read_model(bundle.file(bundle.manifest.engine.file))
        libraries[engine] = op_libraries(bundle, False)
    feeds, load = forced_inputs(_timed_feeds(folder), decisions), engine_named("onnxruntime").load
    runs = {}
    for name, model in models.items():
        content = (steer(model, decisions) if decisions else model).SerializeToString()
        session = load(content, plugins=libraries.get(name, ()), taking_turns=True)
        runs[name] = _run_on(session, feeds)
    timings = time_in_turn(runs, rounds=_ROUNDS, budget_seconds=_SECONDS)
    return {name: timing.median_ms for name, timing in timings.items()}


def _timed_feeds(folder: Path) -> Feeds:
    with np.load(folder / _FEEDS) as stored:
        return {name: stored[name] for name in stored.files}


def _run_on(session: Session, feeds: Feeds) -> Callable[[], object]:
    taken = {info.name: feeds[info.name] for info in session.inputs if info.name in feeds}
    return lambda: session.run(taken)


def _baseline(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_')}.onnx"


def _feeds(folder: Path) -> list[Feeds]:
    """The images one by one, by the name of the input."""
    images = _arrays(folder, _IMAGE)
    count = len(next(iter(images.values())))
    return [{name: image[k : k + 1] for name, image in images.items()} for k in range(count)]


def _arrays(folder: Path, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(folder / _SAMPLE) as stored:
        found = [name for name in stored.files if name.startswith(prefix)]
        return {name.removeprefix(prefix): stored[name] for name in found}


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    with replacing_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _write_json(path: Path, value: object) -> None:
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")

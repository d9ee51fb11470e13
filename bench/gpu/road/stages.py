"""The stages, in the order of what would make everything after them void."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np

from road.cases import Case, Feed
from road.compare import Verdict, judge
from road.layers import layer_report
from road.workplace import RunnerFailure, Workplace

Result = dict[str, Any]
ROUNDS = "60"


def facts(place: Workplace) -> Result:
    """What the machine and the libraries are."""
    found = place.runner.call("facts", plugins=False)
    print("  " + ", ".join(f"{key} {value}" for key, value in found.items()))
    return found


def dense(place: Workplace) -> None:
    """TensorRT itself: the tiny network without plugins."""
    _each(place, _named(place, "both"), _correct, ["dense"])


def plugins(place: Workplace) -> None:
    """Gate alone, convolution alone, both, open sizes; every hard mask."""
    _each(place, _grouped(place, "tiny"), _correct, ["free", "forced"])


def trained(place: Workplace) -> None:
    """The trained network: decisions, then numbers behind the reference's decisions."""
    _each(place, _grouped(place, "trained"), _correct, ["free", "forced", "dense"])


def layers(place: Workplace) -> None:
    """Every node of ours is a plugin, and no selection is converted between two of them."""
    _each(place, _grouped(place, "tiny", "trained"), _count_layers)


def graph(place: Workplace) -> None:
    """A captured graph repeats the answer, and is right for other inputs without a new capture."""
    cases = _grouped(place, "tiny", "trained")
    _each(place, [c for c in cases if "forced" in c.models and not c.dynamic], _replay)


def fresh(place: Workplace) -> None:
    """An engine loads in a new process with the plugin library, and is refused without it."""
    _each(place, _named(place, "both"), _load_without_plugins)


def cache(place: Workplace) -> None:
    """A second build takes its timings from the cache of the first."""
    _each(place, _named(place, "both"), _build_again)


def density(place: Workplace) -> None:
    """Latency of the trained network beside dense, in turns."""
    _each(place, _grouped(place, "trained"), _time)


def resnet50(precision: str) -> Callable[[Workplace], None]:
    """PAG-ResNet-50: right behind forced decisions, then fast, then deciding by itself."""

    def stage(place: Workplace) -> None:
        cases = [case for case in _grouped(place, "resnet50") if case.precision == precision]
        _each(place, cases, _correct, ["forced", "dense"])
        _each(place, cases, _time)
        _each(place, cases, _correct, ["free", "forced"])

    return stage


def sanitize(place: Workplace) -> Result | None:
    """The smallest network under memcheck."""
    program = shutil.which("compute-sanitizer")
    if program is None or place.runner.program.suffix == ".py":
        return {"skipped": "compute-sanitizer needs a GPU and the CUDA toolkit"}
    for case in _named(place, "both"):
        inputs = place.write_inputs(case, "forced", case.feeds[-1])
        command = [program, "--tool", "memcheck", "--error-exitcode", "9"]
        command += [str(place.runner.program), "run", str(place.engine(case, "forced"))]
        command += ["--inputs", str(inputs), "--plugin", str(place.runner.plugins)]
        done = subprocess.run(
            command, env=place.runner.environment(), capture_output=True, text=True, check=False
        )
        said = [] if done.returncode == 0 else [done.stdout[-1500:] + done.stderr[-500:]]
        place.say({"case": case.name, "failures": said}, "memcheck")
    return None


STAGES: dict[str, tuple[Callable[[Workplace], Result | None], float]] = {
    "facts": (facts, 60),
    "dense": (dense, 240),
    "plugins": (plugins, 480),
    "trained": (trained, 480),
    "layers": (layers, 240),
    "graph": (graph, 240),
    "fresh": (fresh, 120),
    "cache": (cache, 120),
    "density": (density, 300),
    "resnet50-fp16": (resnet50("fp16"), 560),
    "resnet50-fp32": (resnet50("fp32"), 560),
    "sanitize": (sanitize, 240),
}
"""By name: what to run, and its limit in seconds."""


def _grouped(place: Workplace, *groups: str) -> list[Case]:
    return [case for case in place.cases if case.group in groups]


def _named(place: Workplace, name: str) -> list[Case]:
    return [case for case in place.cases if case.name == f"{name}.{case.precision}"]


def _each(place: Workplace, cases: list[Case], do: Callable[..., None], *rest: object) -> None:
    """One case that fails does not take the others along."""
    for case in cases:
        try:
            do(place, case, *rest)
        except (RunnerFailure, KeyError, ValueError, OSError) as problem:
            place.say({"case": case.name, "failures": [str(problem)]}, do.__name__.strip("_"))


def _correct(place: Workplace, case: Case, roles: list[str]) -> None:
    """Compare the engines of these roles with the reference on every feed."""
    known = [role for role in roles if role in case.models]
    # An open size is fixed for one process, so each such feed goes alone.
    for batch in [[feed] for feed in case.feeds] if case.dynamic else [case.feeds]:
        for row in _compare(place, case, batch, known):
            place.say(row, _numbers(row))


def _compare(place: Workplace, case: Case, feeds: list[Feed], roles: list[str]) -> list[Result]:
    by_itself = [feed for feed in feeds if feed.decided_by_network]
    answers = {role: place.infer(case, role, feeds)[0]["plain"] for role in roles if role != "free"}
    free = place.infer(case, "free", by_itself)[0]["plain"] if "free" in roles and by_itself else []
    decided = {feed.name: outputs for feed, outputs in zip(by_itself, free, strict=False)}
    rows = []
    for index, feed in enumerate(feeds):
        reference, own = place.feed(feed)[1], decided.get(feed.name)
        given = {role: outputs[index] for role, outputs in answers.items()}
        if not given and own is not None:
            given = {"free": own}
        verdicts = {
            role: judge(case, reference, said, None if role == "dense" else own)
            for role, said in given.items()
        }
        row: Result = {"case": case.name, "feed": feed.name}
        row["roles"] = {role: verdict.as_dict() for role, verdict in verdicts.items()}
        row["failures"] = [
            f"{role}: {text}" for role, verdict in verdicts.items() for text in verdict.failures
        ]
        rows.append(row)
    return rows


def _numbers(row: Result) -> str:
    parts = []
    for role, numbers in row.get("roles", {}).items():
        found = Verdict(**numbers)
        decisions = f", flips {found.flips} free and {found.forced_flips} forced of {found.pixels}"
        parts.append(f"{role}: error {found.error:.1e}" + (decisions if found.pixels else ""))
    return "; ".join(parts)


def _time(place: Workplace, case: Case) -> None:
    """Plugin, masked dense and plain engine in one process, in turns, on every feed."""
    roles = [role for role in ("forced", "dense", "plain") if role in case.models]
    engines = [place.engine(case, role) for role in roles]
    # The forced model's inputs are those of all three.
    folders = [place.write_inputs(case, "forced", feed) for feed in case.feeds]
    options = [part for folder in folders for part in ("--inputs", folder)]
    results = iter(place.runner.call("time", *engines, *options, "--rounds", ROUNDS)["results"])
    for feed in case.feeds:
        times = {role: next(results)["time"] for role in roles}
        medians = {role: time["median_ms"] for role, time in times.items()}
        row: Result = {"case": case.name, "feed": feed.name, "failures": [], "times": times}
        row["density"] = feed.density
        row["ratio"] = medians["dense"] / medians["forced"]
        row["ceiling"] = feed.macs["dense"] / feed.macs["needed"]
        if "plain" in medians:
            row["plain_ratio"] = medians["plain"] / medians["forced"]
            row["plain_ceiling"] = feed.macs["plain"] / feed.macs["needed"]
        text = ", ".join(f"{role} {value:.3f} ms" for role, value in medians.items())
        place.say(row, f"{text}, x{row['ratio']:.2f} of at most x{row['ceiling']:.2f}")


def _count_layers(place: Workplace, case: Case) -> None:
    path = place.work / f"{case.name}.layers.json"
    options = ("--layers", path, "--profile", "20")
    role = "free" if "free" in case.models else "forced"
    _, profiled = place.infer(case, role, case.feeds[:1], *options)
    found = layer_report(path.read_text())
    row: Result = {"case": case.name, "wanted": case.plugins, **found, "failures": []}
    row["times"] = sorted(profiled["layers"], key=lambda layer: -layer["ms"])[:12]
    if found["plugins"] != case.plugins:
        row["failures"].append(f"{case.plugins} nodes are to be plugins")
    if found["selection_conversions"]:
        row["failures"].append(f"selections are converted: {found['selection_conversions']}")
    beside = len(found["conversions"])
    place.say(row, f"{found['plugins']} plugins, {beside} conversions beside them")


def _replay(place: Workplace, case: Case) -> None:
    ways, _ = place.infer(case, "forced", case.feeds, "--graph")
    row: Result = {"case": case.name, "failures": []}
    for feed, plain, replayed in zip(case.feeds, ways["plain"], ways["replayed"], strict=True):
        changed = [n for n in plain if not np.array_equal(plain[n], replayed[n], equal_nan=True)]
        row["failures"] += [f"{feed.name}: the replay changes {name}" for name in changed]
        failures = judge(case, place.feed(feed)[1], replayed).failures
        row["failures"] += [f"{feed.name} replayed: {failure}" for failure in failures]
    place.say(row, f"captured once, replayed on {len(case.feeds)} feeds")


def _load_without_plugins(place: Workplace, case: Case) -> None:
    place.infer(case, "free", case.feeds[:1])
    engine = place.engine(case, "free")
    inputs = place.write_inputs(case, "free", case.feeds[0])
    row: Result = {"case": case.name, "failures": []}
    try:
        place.runner.call("run", engine, "--inputs", inputs, plugins=False)
        row["failures"].append("it loads without the plugin library")
    except RunnerFailure as refusal:
        row["without"] = str(refusal)
        if "ended with signal" in row["without"]:
            row["failures"].append("it crashes without the plugin library")
    place.say(row, f"without the library: {row.get('without')}")


def _build_again(place: Workplace, case: Case) -> None:
    place.engine(case, "free")
    again = place.build(case, "free", place.work / f"{case.name}.again.engine")["seconds"]
    place.say({"case": case.name, "seconds": again, "failures": []}, f"again in {again:.1f} s")

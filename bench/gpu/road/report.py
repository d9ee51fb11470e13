"""The results of a run as markdown, for docs/results/gpu.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Data = dict[str, Any]

OPPONENTS = ("dense", "plain")
RATIOS = ("ratio", "ceiling", "plain_ratio", "plain_ceiling")


def report(data: Data) -> str:
    """The tables of one JSON file."""
    return "\n".join([*_machine(data), "", *_verdicts(data), "", *_latencies(data)])


def _machine(data: Data) -> Iterator[str]:
    if data.get("self_check"):
        yield "A rehearsal in onnxruntime: the verdicts count, the times do not.\n"
    facts = data["stages"].get("facts", {})
    yield ", ".join(f"{key} {value}" for key, value in facts.items() if key not in _OWN_KEYS)


_OWN_KEYS = ("seconds", "failed", "rows", "built", "reason")


def _verdicts(data: Data) -> Iterator[str]:
    yield "| stage | rows | failed | largest error fp32 | fp16 | flips free | forced | of |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, stage in data["stages"].items():
        if "skipped" in stage:
            yield f"| `{name}` | {stage['skipped']} | | | | | | |"
            continue
        rows = stage.get("rows", [])
        found = [
            (row["case"].rsplit(".", 1)[-1], numbers)
            for row in rows
            for numbers in row.get("roles", {}).values()
        ]
        decided = [next(iter(row["roles"].values())) for row in rows if row.get("roles")]
        errors = [_largest(found, precision) for precision in ("fp32", "fp16")]
        sums = [sum(n[key] for n in decided) for key in ("flips", "forced_flips", "pixels")]
        failed = sum(bool(row["failures"]) for row in rows)
        verdict = f"{failed} {stage.get('reason', '')}".strip()
        cells = [f"`{name}`", len(rows), verdict, *errors, *sums]
        yield "| " + " | ".join(map(str, cells)) + " |"


def _largest(found: list[tuple[str, Data]], precision: str) -> str:
    errors = [numbers["error"] for name, numbers in found if name == precision]
    return f"{max(errors):.1e}" if errors else ""


def _latencies(data: Data) -> Iterator[str]:
    heads = ["network", "density", "plugins, ms (p10 to p90)", "masked dense, ms", "plain, ms"]
    heads += ["masked dense / plugins", "ceiling", "plain / plugins", "ceiling"]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for stage in data["stages"].values():
        for row in stage.get("rows", []):
            if "ratio" in row:
                yield _latency(row)


def _latency(row: Data) -> str:
    times = row["times"]
    own = times["forced"]
    density = "own" if row["density"] is None else f"{row['density']:g}"
    cells = [
        row["case"],
        density,
        f"{own['median_ms']:.3f} ({own['p10_ms']:.3f} to {own['p90_ms']:.3f})",
        *(f"{times[role]['median_ms']:.3f}" if role in times else "" for role in OPPONENTS),
        *(f"{row[key]:.2f}" if key in row else "" for key in RATIOS),
    ]
    return "| " + " | ".join(cells) + " |"

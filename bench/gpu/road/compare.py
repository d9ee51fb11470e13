"""Does the engine say what the reference says? Decisions first, numbers behind forced decisions.

The rules are pagdeploy's own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pagdeploy.check.compare import NETWORK_BOUNDS, compare
from pagdeploy.check.gates import GateComparison, compare_gate
from road.cases import Arrays, Case, sampled

OWN = ".own"


@dataclasses.dataclass
class Verdict:
    """What was found on one feed.

    Attributes:
        error: Largest scale-free error of an output.
        pixels: Decisions compared.
        flips: Of the free engine, if there is one; they may cause one another.
        forced_flips: Behind forced decisions.
        worst_margin: Of a forced flip, over the margin that the precision explains.
        failures: One sentence each; none if all is well.
    """

    error: float = 0.0
    pixels: int = 0
    flips: int = 0
    forced_flips: int = 0
    worst_margin: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return dataclasses.asdict(self)


def judge(case: Case, reference: Arrays, forced: Arrays, free: Arrays | None = None) -> Verdict:
    """Hold an engine's outputs to the reference's.

    Args:
        case: Whose engine it is.
        reference: Outputs, logits, and own decisions with OWN behind the selection's name.
        forced: Of the engine whose decisions are forced, complete.
        free: Of the engine that decides by itself, if the reference did so too.
    """
    verdict = Verdict()
    for name in case.outputs:
        if name not in forced:
            verdict.failures.append(f"the output {name} is missing")
            continue
        _judge_output(case, name, reference, forced, verdict)
    for gate in case.gates:
        own = forced.get(gate.selection + OWN, forced.get(gate.selection))
        if own is None:
            verdict.failures.append(f"the decisions of gate {gate.name} are missing")
            continue
        found = compare_gate(
            gate.name,
            reference[gate.logits],
            reference[gate.selection + OWN],
            own if free is None else free.get(gate.selection, np.empty(0, np.int32)),
            own,
            case.precision,
            forced.get(gate.logits),
        )
        verdict.flips += found.flips if free is not None else 0
        _add_gate(found, verdict)
    return verdict


def _judge_output(
    case: Case, name: str, reference: Arrays, forced: Arrays, verdict: Verdict
) -> None:
    wanted, whole = reference[name], forced[name]
    got = sampled(whole, case.step)
    if whole.dtype == np.float16:
        got = got.astype(np.float32)
    found = compare(name, got, wanted, NETWORK_BOUNDS[case.precision])
    verdict.error = max(verdict.error, found.error)
    # The reference holds samples, but a poisoned element shows anywhere.
    unwritten = int(np.isnan(whole).sum()) if whole.dtype.kind == "f" else 0
    if unwritten > int(np.isnan(wanted).sum()) * case.step**2:
        verdict.failures.append(f"the output {name} holds {unwritten} NaN")
    elif not found.passed:
        verdict.failures.append(
            f"the output {name} differs by {found.error:.3g} (the bound is {found.bound:.3g}), "
            f"most at {found.worst}: {found.engine_value:.6g}, not {found.reference_value:.6g}"
        )


def _add_gate(found: GateComparison, verdict: Verdict) -> None:
    verdict.pixels += found.pixels
    verdict.forced_flips += found.forced_flips
    if found.margin_bound:
        share = found.worst_margin / found.margin_bound
        verdict.worst_margin = max(verdict.worst_margin, share)
    if not found.passed:
        verdict.failures.append(
            f"gate {found.name}: {found.unexplained} of {found.forced_flips} flips unexplained "
            f"(margin {found.worst_margin:.3g}, bound {found.margin_bound:.3g}), "
            f"{found.misread} misread, logits differ by {found.logit_error:.3g}"
        )

"""Where did the savings go? Times of nodes, held to what their multiply-adds would allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pagdeploy.verbs.profile.result import PLAIN, Balance, OpRow, Saving

if TYPE_CHECKING:
    from pagdeploy.engines.ort_profile import NodeTimes
    from pagdeploy.verbs.profile.candidates import Candidates


def find_savings(rows: Sequence[OpRow], plain: Mapping[str, float]) -> list[Saving]:
    """One entry a perforated convolution, or a node that does several.

    Args:
        rows: As `op_rows` gives them.
        plain: Milliseconds in the plain dense network, by name of the convolution.
    """
    found: list[Saving] = []
    waiting: list[OpRow] = []  # that ran in a node of the next one of their gate
    for row in rows:
        if row.kind != "perforated" or row.dense_macs is None or row.engine_macs is None:
            continue
        if waiting and row.gate != waiting[0].gate:
            found += [_saving([lone], plain) for lone in waiting]
            waiting = []
        waiting.append(row)
        if row.engine_ms > 0:
            found.append(_saving(waiting, plain))
            waiting = []
    return found + [_saving([lone], plain) for lone in waiting]


def _saving(rows: Sequence[OpRow], plain: Mapping[str, float]) -> Saving:
    last = rows[-1]
    dense, needed = (
        sum(getattr(row, name) or 0.0 for row in rows) for name in ("dense_macs", "engine_macs")
    )
    timed = [row for row in rows if row.name in plain]
    masked = sum(row.dense_ms for row in rows)
    plain_ms = sum(plain[row.name] for row in timed) if timed else None
    # The speed that dense kernels reach at this convolution.
    macs = sum(row.dense_macs or 0.0 for row in timed) if timed else dense
    allowed = (masked if plain_ms is None else plain_ms) * needed / macs if macs else 0.0
    engine = sum(row.engine_ms for row in rows)
    return Saving(
        name=last.name,
        fused=[row.name for row in rows[:-1]],
        gate=last.gate,
        density=needed / dense if dense else 0.0,
        dense_macs=dense,
        needed_macs=needed,
        plain_ms=plain_ms,
        masked_ms=masked,
        engine_ms=engine,
        allowed_ms=allowed,
        gap_ms=engine - allowed,
    )


def plain_times(
    candidates: Candidates, times: Mapping[str, Sequence[NodeTimes]]
) -> tuple[dict[str, float], float]:
    """Milliseconds of the plain dense network: by perforated convolution, and of all nodes."""
    from pagdeploy.verbs.profile.ops import owned_times

    totals = owned_times(candidates, times[PLAIN])
    return {name: ms for (name, _), ms in totals.items() if name}, sum(totals.values())


def strike_balance(rows: Sequence[OpRow], savings: Sequence[Saving], plain_total: float) -> Balance:
    """From the plain dense network's nodes to the engine's.

    Args:
        rows: As `op_rows` gives them: every node of the engine is in one.
        savings: As `find_savings` gives them.
        plain_total: Of all nodes of the plain dense network, in milliseconds.
    """
    convolutions = sum(saving.plain_ms or 0.0 for saving in savings)
    gates = sum(row.engine_ms for row in rows if row.kind == "gate")
    others = sum(row.engine_ms for row in rows if row.kind == "other")
    return Balance(
        plain_ms=plain_total,
        possible_ms=convolutions - sum(saving.allowed_ms for saving in savings),
        gap_ms=sum(saving.gap_ms for saving in savings),
        gates_ms=gates,
        others_ms=others - (plain_total - convolutions),
        engine_ms=sum(row.engine_ms for row in rows),
    )

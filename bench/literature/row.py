"""What is known of one network: counts, proofs and times."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pagdeploy.verbs.profile.candidates import MASKED, PLAIN

LOWERINGS = {"native": "native", "pure": "gather"}
WORTH = 0.8  # of the dense multiply-adds: a network that needs no more has to be faster


@dataclasses.dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        system: Its name.
        gates_found: Hard decisions that were recognised.
        gates_expected: Those of the definition.
        perforated: Convolutions that are computed at some pixels or images only.
        perforable: Those whose results the definition leaves unread somewhere.
        verified: Whether every engine is.
        error: The largest one of an engine's outputs, of their scale.
        macs_dense: Multiply-adds of the plain dense network.
        macs_masked: Of the masked dense one.
        macs_needed: Of what the decisions on the timed image ask for.
        milliseconds: Medians: of each engine, of PLAIN and of MASKED; empty if not timed.
        reason: Why it is not verified.
    """

    system: str
    gates_found: int = 0
    gates_expected: int = 0
    perforated: int = 0
    perforable: int = 0
    verified: bool = False
    error: float = 0.0
    macs_dense: float = 0.0
    macs_masked: float = 0.0
    macs_needed: float = 0.0
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)
    reason: str = ""

    def ratio(self, engine: str, baseline: str = PLAIN) -> float:
        """The time of the baseline over the engine's; 0 if there is none."""
        if engine not in self.milliseconds:
            return 0.0
        return self.milliseconds[baseline] / self.milliseconds[engine]

    @property
    def best_ratio(self) -> float:
        """The time of the plain dense network over that of the fastest engine; 0 if not timed."""
        return max(self.ratio(engine) for engine in LOWERINGS)

    @property
    def ceiling(self) -> float:
        """Dense over needed multiply-adds."""
        return self.macs_dense / self.macs_needed if self.macs_needed else 1.0

    @property
    def is_slow(self) -> bool:
        """Whether it was timed, and no engine saves time although the network saves much work."""
        saves = self.macs_needed <= WORTH * self.macs_dense
        return bool(self.milliseconds) and saves and self.best_ratio <= 1

    def to_json(self) -> dict[str, Any]:
        """All fields, and what follows from them: `ratio` (`best_ratio`) and `ceiling`."""
        derived = {"ratio": self.best_ratio, "ceiling": self.ceiling}
        return {**dataclasses.asdict(self), **derived}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Row:
        """Of what `to_json` gave."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in names})


def line(row: Row, *, markdown: bool = False, timed: bool = True) -> str:
    """The row as text.

    Args:
        row: What was measured; the ratio of an engine that was not timed is a dash.
        markdown: As a row of a table.
        timed: With ratios: to the plain dense network, then to the masked one, engine by engine.
    """
    cells = [
        row.system, f"{row.gates_found} / {row.gates_expected}",
        f"{row.perforated} / {row.perforable}", "yes" if row.verified else f"NO {row.reason}",
        f"{row.error:.1e}", f"{row.macs_dense / 1e6:.1f}", f"{row.macs_needed / 1e6:.1f}",
        f"{row.ceiling:.2f}",
    ]  # fmt: skip
    if timed:
        ratios = [row.ratio(engine, base) for base in (PLAIN, MASKED) for engine in LOWERINGS]
        cells += [f"{ratio:.2f}" if ratio else "-" for ratio in ratios]
    return f"| {' | '.join(cells)} |" if markdown else "  ".join(cells)

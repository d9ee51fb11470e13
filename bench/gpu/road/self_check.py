"""What can be checked without an engine: the weights, and that the comparison finds faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from pagdeploy.check.compare import NETWORK_BOUNDS
from road.cases import Arrays, Case, read_feed
from road.compare import OWN, judge
from road.weights import refill

Plant = Callable[[Case, Arrays], bool]
"""Plants a fault in an engine's outputs; False if the case offers no place for it."""


def check_weights(folder: Path, cases: list[Case]) -> list[str]:
    """Make every generated tensor; `refill` holds each to its digest."""
    failures = []
    made = 0
    for case in cases:
        for file in case.models.values():
            try:
                made += refill(onnx.load(folder / file, load_external_data=False))
            except ValueError as problem:
                failures.append(f"{file}: {problem}")
    print(f"  {made} generated tensors are what they were")
    return failures


def check_comparison(folder: Path, cases: list[Case]) -> list[str]:
    """The reference's own answers pass; planted faults do not."""
    failures = []
    found = 0
    for case in cases:
        _, reference = read_feed(folder, case.feeds[0])
        outputs = as_engine(case, reference)
        verdict = judge(case, reference, outputs, outputs if "free" in case.models else None)
        failures += [f"{case.name}: the reference fails: {text}" for text in verdict.failures]
        for name, plant in PLANTS.items():
            planted = {key: array.copy() for key, array in outputs.items()}
            if not plant(case, planted):
                continue
            found += 1
            fails = bool(judge(case, reference, planted).failures)
            if fails == (name == "a flip at a tie"):
                failures.append(f"{case.name}: {name} is {'refused' if fails else 'not found'}")
    print(f"  {found} planted faults are judged rightly")
    return failures


def as_engine(case: Case, reference: Arrays) -> Arrays:
    """The reference as an engine would answer: whole outputs, of which it holds samples."""
    outputs = dict(reference)
    for name in case.outputs:
        if outputs[name].ndim == 4 and case.step > 1:
            outputs[name] = outputs[name].repeat(case.step, 2).repeat(case.step, 3)
    for gate in case.gates:
        outputs[gate.selection] = reference[gate.selection + OWN]
    return outputs


def _unwritten(case: Case, outputs: Arrays) -> bool:
    array = outputs[case.outputs[0]]
    if array.dtype.kind != "f":
        array.flat[-1] = -1
    else:
        array.flat[-1] = np.nan
    return True


def _wrong_value(case: Case, outputs: Arrays) -> bool:
    array = outputs[case.outputs[0]]
    offset = case.step // 2
    array[0, 0, offset, offset] += 0.1 * np.abs(array).max() + 1
    return True


def _shifted(case: Case, outputs: Arrays) -> bool:
    name = case.outputs[0]
    outputs[name] = np.roll(outputs[name], case.step, axis=3)
    return True


def _missing(case: Case, outputs: Arrays) -> bool:
    del outputs[case.outputs[-1]]
    return True


def _clear_flip(case: Case, outputs: Arrays) -> bool:
    """Another branch where the margin is largest, with logits that say so."""
    return _swap_best(case, outputs, largest=True)


def _flip_at_tie(case: Case, outputs: Arrays) -> bool:
    """Another branch where the margin is smallest: what lower precision does."""
    if not case.gates:
        return False
    logits = np.sort(outputs[case.gates[0].logits], axis=1)
    smallest = (logits[:, -1] - logits[:, -2]).min()
    explained = NETWORK_BOUNDS[case.precision] * (logits[:, -1] - logits[:, 0]).max()
    return bool(smallest <= explained) and _swap_best(case, outputs, largest=False)


def _misread(case: Case, outputs: Arrays) -> bool:
    if not case.gates:
        return False
    decided = outputs[case.gates[0].selection + OWN]
    branches = outputs[case.gates[0].logits].shape[1]
    decided.flat[0] = (decided.flat[0] + 1) % branches
    return True


def _swap_best(case: Case, outputs: Arrays, largest: bool) -> bool:
    if not case.gates:
        return False
    gate = case.gates[0]
    logits, decided = outputs[gate.logits], outputs[gate.selection + OWN]
    ordered = np.sort(logits, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]  # (N, H, W)
    n, y, x = np.unravel_index(int(margin.argmax() if largest else margin.argmin()), margin.shape)
    best, second = np.argsort(-logits[n, :, y, x], kind="stable")[:2]
    logits[n, [best, second], y, x] = logits[n, [second, best], y, x]
    decided[n, 0, y, x] = logits[n, :, y, x].argmax()
    return True


PLANTS: dict[str, Plant] = {
    "an unwritten element": _unwritten,
    "a wrong value": _wrong_value,
    "a shifted output": _shifted,
    "a missing output": _missing,
    "a clear flip": _clear_flip,
    "a decision against the logits": _misread,
    "a flip at a tie": _flip_at_tie,
}

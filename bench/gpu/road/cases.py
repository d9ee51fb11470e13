"""What `prepare` writes and `run` reads: models, feeds with their reference, and a list of both.

A case is one network in one precision. Its models, by role:

    free    our nodes as plugins, as deployed; selections and logits are outputs too
    forced  the same with the selections as inputs, so that a flip near a tie cannot cascade
    dense   every pixel computed, then chosen; selections are inputs as well
    plain   the network trained without gates: another function, shown for its latency
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

CASES_FILE = "cases.json"
FORMAT = 1
DENSITIES = (1.0, 0.7, 0.5, 0.3)


@dataclasses.dataclass(frozen=True)
class Gate:
    """A gate, as the free model names its values."""

    name: str
    logits: str
    selection: str


@dataclasses.dataclass(frozen=True)
class Feed:
    """Inputs, selections to force, and what the reference computes from both.

    Attributes:
        name: Of the feed: what its selections are.
        files: Archives; a key is `in/NAME` or `reference/NAME`.
        decided_by_network: The selections are the reference's own, so the free engine counts.
        density: Share of active pixels asked for, if one was.
        macs: Multiply-adds of the dense, the needed and the plain computation.
    """

    name: str
    files: tuple[str, ...]
    decided_by_network: bool = False
    density: float | None = None
    macs: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Case:
    """One network in one precision.

    Attributes:
        name: Of the network and the precision.
        group: "tiny", "trained" or "resnet50".
        precision: A key of the bounds in pagdeploy.check.compare.
        models: ONNX file by role.
        inputs: Names of the graph inputs by role.
        outputs: Names of the outputs to compare.
        gates: Those of the network.
        plugins: Number of nodes that must become plugins.
        step: The reference holds every `step`-th row and column of an output.
        dynamic: Whether the sizes of the inputs are open.
        feeds: To run on.
    """

    name: str
    group: str
    precision: str
    models: Mapping[str, str]
    inputs: Mapping[str, list[str]]
    outputs: list[str]
    gates: list[Gate]
    plugins: int
    step: int
    dynamic: bool
    feeds: list[Feed]


def write_cases(folder: Path, cases: list[Case], versions: Mapping[str, str]) -> None:
    """Write the list."""
    listed = [dataclasses.asdict(case) for case in cases]
    text = json.dumps({"format": FORMAT, "versions": dict(versions), "cases": listed}, indent=1)
    (folder / CASES_FILE).write_text(text)


def read_cases(folder: Path) -> list[Case]:
    """Read the list.

    Raises:
        ValueError: it is of another format, or a file that it names is missing.
    """
    data = json.loads((folder / CASES_FILE).read_text())
    if data["format"] != FORMAT:
        raise ValueError(f"{CASES_FILE} is of format {data['format']}, not {FORMAT}")
    cases = [
        Case(
            **{
                **entry,
                "gates": [Gate(**gate) for gate in entry["gates"]],
                "feeds": [
                    Feed(**{**feed, "files": tuple(feed["files"])}) for feed in entry["feeds"]
                ],
            }
        )
        for entry in data["cases"]
    ]
    for case in cases:
        for name in (*case.models.values(), *(f for feed in case.feeds for f in feed.files)):
            if not (folder / name).is_file():
                raise ValueError(f"{CASES_FILE} names {name}, which is missing")
    return cases


def read_feed(folder: Path, feed: Feed) -> tuple[Arrays, Arrays]:
    """The inputs, selections among them, and the reference's values."""
    inputs: Arrays = {}
    reference: Arrays = {}
    for file in feed.files:
        with np.load(folder / file, allow_pickle=False) as archive:
            for key in archive.files:
                kind, _, name = key.partition("/")
                (inputs if kind == "in" else reference)[name] = archive[key]
    return inputs, reference


def sampled(array: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Every `step`-th row and column, starting in the middle of the first cell."""
    return array[..., step // 2 :: step, step // 2 :: step] if array.ndim == 4 else array


def raw_file(folder: Path, tensor: str) -> Path:
    """Where the runner reads or writes a tensor."""
    return folder / (re.sub(r"[^A-Za-z0-9._-]", "_", tensor) + ".bin")

"""The runner as Python calls it, and the folder in which engines and raw tensors are kept."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from road.cases import Arrays, Case, Feed, raw_file, read_feed
from road.weights import refill

NO_DEVICE = 77


class RunnerFailure(Exception):
    """The runner ended with an error; its sentence."""


@dataclasses.dataclass(frozen=True)
class Runner:
    """The compiled runner, or a Python program with the same command line.

    Attributes:
        program: The runner.
        plugins: The plugin library.
        libraries: Folder of TensorRT's libraries, if they lie on no standard path.
        seconds: Limit of one call.
        log: Where all that the runner says on stderr is collected.
    """

    program: Path
    plugins: Path
    libraries: Path | None = None
    seconds: float = 540.0
    log: Path | None = None

    def environment(self) -> dict[str, str]:
        """Of the runner's process: where TensorRT is found."""
        environment = dict(os.environ)
        if self.libraries is not None:
            paths = [str(self.libraries), environment.get("LD_LIBRARY_PATH", "")]
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
        return environment

    def call(self, *arguments: str | Path, plugins: bool = True) -> dict[str, Any]:
        """Run one command; returns its result.

        Raises:
            RunnerFailure: it did not end well.
        """
        start = [sys.executable] if self.program.suffix == ".py" else []
        command = [*start, str(self.program), *map(str, arguments)]
        command += ["--plugin", str(self.plugins)] if plugins else []
        try:
            done = subprocess.run(
                command,
                env=self.environment(),
                capture_output=True,
                text=True,
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RunnerFailure(f"{arguments[0]} took more than {self.seconds:.0f} s") from None
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(f"$ {' '.join(command)}\n{done.stderr}")
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no message"]
            end = f"signal {-done.returncode}" if done.returncode < 0 else f"{done.returncode}"
            raise RunnerFailure(f"{arguments[0]} ended with {end}: {lines[-1]}")
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return result


@dataclasses.dataclass
class Workplace:
    """Engines are built when they are first asked for, and kept for the stages that follow.

    Attributes:
        folder: What `prepare` wrote.
        work: Where engines and raw tensors are kept.
        runner: The runner.
        cases: To be worked on.
        build_seconds: Of the engines built so far, by name.
        rows: The stage's results so far.
        on_row: Told of them after each, so that a stage that is stopped leaves what it found.
    """

    folder: Path
    work: Path
    runner: Runner
    cases: list[Case]
    build_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    on_row: Callable[[list[dict[str, Any]]], None] = lambda rows: None

    def say(self, row: dict[str, Any], text: str) -> None:
        """Keep a row of results, and print a line about it."""
        verdict = "ok" if not row["failures"] else "FAILED: " + "; ".join(row["failures"])
        feed = f" {row['feed']}" if "feed" in row else ""
        print(f"  {row['case']}{feed}: {text}: {verdict}", flush=True)
        self.rows.append(row)
        self.on_row(self.rows)

    def model(self, case: Case, role: str) -> Path:
        """The ONNX file, its generated weights in place."""
        path = self.work / "models" / case.models[role]
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            source = self.folder / case.models[role]
            model = onnx.load(source, load_external_data=False)
            refill(model)
            path.write_bytes(model.SerializeToString())
        return path

    def engine(self, case: Case, role: str) -> Path:
        """The engine of a case, built at the first call."""
        path = self.work / "engines" / f"{case.name}.{role}.engine"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            self.build(case, role, path)
            self.build_seconds[path.stem] = round(time.monotonic() - started, 1)
            print(f"  built {path.stem} in {self.build_seconds[path.stem]} s", flush=True)
        return path

    def build(self, case: Case, role: str, engine: Path) -> dict[str, Any]:
        """Build an engine anew."""
        options: list[str | Path] = ["--cache", self.work / "timing.cache"]
        if case.precision == "fp16":
            names = self.folder / f"{case.name}.{role}.float32"
            options += ["--fp16", "--float32-layers", names]
        if case.dynamic:
            options += self._profile(case, role)
        partial = engine.with_suffix(".partial")
        result = self.runner.call("build", self.model(case, role), partial, *options)
        partial.rename(engine)
        return result

    def feed(self, feed: Feed) -> tuple[Arrays, Arrays]:
        """Inputs and reference."""
        return read_feed(self.folder, feed)

    def write_inputs(self, case: Case, role: str, feed: Feed) -> Path:
        """The inputs of one model as raw files; returns their folder."""
        folder = self.work / "inputs" / f"{case.name}.{role}.{feed.name}".replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        inputs, _ = self.feed(feed)
        for name in case.inputs[role]:
            np.ascontiguousarray(inputs[name]).tofile(raw_file(folder, name))
        return folder

    def shapes(self, case: Case, role: str, feed: Feed) -> list[str]:
        """The sizes of a feed, where the engine leaves them open."""
        if not case.dynamic:
            return []
        inputs, _ = self.feed(feed)
        named = ((name, inputs[name].shape) for name in case.inputs[role])
        return [part for name, shape in named for part in ("--shape", f"{name}:{_spelt(shape)}")]

    def infer(
        self, case: Case, role: str, feeds: list[Feed], *options: str | Path
    ) -> tuple[dict[str, list[Arrays]], dict[str, Any]]:
        """Run an engine on feeds of equal sizes, in one process.

        Returns:
            The outputs on each feed by way, "plain" and with --graph "replayed"; the runner's
            result.
        """
        folder = self.work / "outputs" / f"{case.name}.{role}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        more: list[str | Path] = [*options, *self.shapes(case, role, feeds[0])]
        for feed in feeds:
            more += ["--inputs", self.write_inputs(case, role, feed)]
        result = self.runner.call("run", self.engine(case, role), "--outputs", folder, *more)
        ways = ["plain", *(["replayed"] if "--graph" in options else [])]
        tensors = [tensor for tensor in result["tensors"] if tensor["output"]]
        numbered = range(len(feeds))
        outputs = {
            way: [_read_outputs(folder / f"{way}-{k}", tensors) for k in numbered] for way in ways
        }
        return outputs, result

    def _profile(self, case: Case, role: str) -> Iterable[str]:
        sizes: dict[str, list[tuple[int, ...]]] = {}
        for feed in case.feeds:
            inputs, _ = self.feed(feed)
            for name in case.inputs[role]:
                sizes.setdefault(name, []).append(inputs[name].shape)
        for name, shapes in sizes.items():
            low, high = (tuple(map(choose, zip(*shapes, strict=True))) for choose in (min, max))
            yield from ("--shape", f"{name}:{_spelt(low)},{_spelt(shapes[0])},{_spelt(high)}")


def _spelt(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _read_outputs(folder: Path, tensors: list[dict[str, Any]]) -> Arrays:
    return {
        tensor["name"]: np.fromfile(raw_file(folder, tensor["name"]), tensor["type"]).reshape(
            tensor["shape"]
        )
        for tensor in tensors
    }

"""What every command shares: options, progress, tables, JSON, and how an error looks."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer

from pagdeploy.errors import EnvironmentProblem, PagdeployError
from pagdeploy.report.html import printable as printable  # commands find it here

if TYPE_CHECKING:
    from rich.console import Console

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show progress.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Show each pass and what it leaves.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shapes", metavar="NAME:1x3x480x640", help="Shape of an input; repeatable."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="NAME=photo.jpg, NAME=x.npy, NAME=0.5, or all.npz; repeatable."),
]
Html = Annotated[
    Path | None, typer.Option("--html", help="Report to write: one page that stands alone.")
]
HostCode = Annotated[
    bool,
    typer.Option(
        "--allow-host-code", help="Run the code inside of a version-compatible plan; trust it."
    ),
]


def reported(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn an error of ours into one line on stderr (or JSON on stdout) and its exit code."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except (PagdeployError, OSError, MemoryError) as problem:
            error = problem if isinstance(problem, PagdeployError) else _of_the_machine(problem)
            if kwargs.get("as_json"):
                fault = {
                    "error": error.message,
                    "remedy": error.remedy,
                    "exit_code": error.exit_code,
                }
                typer.echo(json.dumps(fault, indent=2))
            else:
                typer.echo(f"error: {printable(str(error))}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None

    return wrapped


def _of_the_machine(problem: OSError | MemoryError) -> PagdeployError:
    if isinstance(problem, MemoryError):
        return EnvironmentProblem(
            "The memory does not suffice.", remedy="Give smaller inputs, or use a larger machine."
        )
    where = f" ({problem.filename})" if problem.filename else ""
    return EnvironmentProblem(
        f"The system refuses: {problem.strerror or problem}{where}.",
        remedy="Check the path, its permissions and the free space.",
    )


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Steps as a bar on a terminal, as plain lines elsewhere, both on stderr."""
    if quiet:
        yield lambda step, number, total: None
    elif sys.stderr.isatty():
        with _bar() as advance:
            yield advance
    else:
        yield lambda step, number, total: typer.echo(f"[{number}/{total}] {step}", err=True)


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("")

        def advance(step: str, number: int, total: int) -> None:
            # The step has begun, so one fewer is complete.
            bar.update(task, description=step, completed=number - 1, total=total)

        yield advance


def log_passes(verbosity: int) -> None:
    """Show what the passes do: nothing at 0, everything that they say from 1 on."""
    if verbosity:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger = logging.getLogger("pagdeploy")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


def console(*, stderr: bool = False) -> Console:
    """Where tables go; wide where nobody watches, so that no cell is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers stand to the right."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], (int, float)) for row in rows)
        justify: Literal["right", "left"] = "right" if numeric and rows else "left"
        shown.add_column(column, justify=justify, overflow="fold")  # paths are not cut
    for row in rows:
        shown.add_row(*(escape(_cell(cell)) for cell in row))
    console().print(shown)


def print_json(result: object) -> None:
    """Print a result as JSON on stdout; infinities and NaN become strings."""
    typer.echo(json.dumps(jsonable(result), indent=2))


def jsonable(value: Any) -> Any:
    """A result with nothing in it that JSON lacks."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def invocation() -> str:
    """The command line that runs, as it can be given to a shell again."""
    return shlex.join(["pagdeploy", *sys.argv[1:]])


def wrote(path: Path | None) -> None:
    """Name a file that was written."""
    if path is not None:
        typer.echo(f"wrote {path}")

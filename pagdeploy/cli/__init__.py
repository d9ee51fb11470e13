"""The command line: one file a command, each a thin dress over a verb."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from pagdeploy.cli.build import build
from pagdeploy.cli.bundle import bundle
from pagdeploy.cli.demo import demo
from pagdeploy.cli.dialects import translate
from pagdeploy.cli.doctor import doctor
from pagdeploy.cli.export import export
from pagdeploy.cli.group import Group
from pagdeploy.cli.harden import harden
from pagdeploy.cli.inspect import inspect
from pagdeploy.cli.profile import profile
from pagdeploy.cli.run import run
from pagdeploy.cli.verify import verify

app = typer.Typer(
    name="pagdeploy",
    cls=Group,
    help="Deploy pixel-gated networks: PyTorch in, a verified engine out.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # what is not an error of ours is a bug: show its traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (demo, export, harden, build, verify, profile, run, inspect, doctor):
    app.command()(_command)
app.add_typer(bundle)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        from pagdeploy import __version__

        typer.echo(f"pagdeploy {__version__}")
        raise typer.Exit


def main() -> None:
    """The console command; SIGTERM ends it with 143 and leaves no temporary file behind."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _stop)
    app(args=translate(sys.argv[1:]))


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the tidying up
    raise SystemExit(128 + number)

"""All commands as one, whose own errors are JSON where JSON is asked for."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

# Base of "no such option", "missing argument" and the like; some versions of typer bring a click
# of their own, so that it has no name to import that holds for all of them.
_Misuse: Any = typer.BadParameter.__base__


class Group(TyperGroup):
    """The group of all commands."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run the command that the arguments name, and exit."""
        given = list(sys.argv[1:] if args is None else args)
        if "--json" not in itertools.takewhile(lambda argument: argument != "--", given):
            return super().main(given, *rest, **options)
        try:
            code = super().main(given, *rest, **{**options, "standalone_mode": False})
        except _Misuse as misuse:
            command = misuse.ctx.command_path if misuse.ctx is not None else "pagdeploy"
            fault = {
                "error": misuse.format_message(),
                "remedy": f"See '{command} --help'.",
                "exit_code": misuse.exit_code,
            }
            typer.echo(json.dumps(fault, indent=2))
            sys.exit(misuse.exit_code)
        sys.exit(code if isinstance(code, int) else 0)

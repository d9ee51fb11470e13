"""pagdeploy doctor."""

from __future__ import annotations

import typer

from pagdeploy.cli.console import Json, print_json, reported, table


@reported
def doctor(as_json: Json = False) -> None:
    """Show what is installed, what is missing, and what to do about it."""
    from pagdeploy.verbs.doctor import doctor as examine

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        rows = [[f.subject, f.status, f.found, f.remedy] for f in findings]
        table("This machine", ["what", "status", "found", "what to do"], rows)
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(3)

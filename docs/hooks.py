"""What the site shows beyond the pages of this folder: the code's own words, where a page asks.

A page asks by a comment on a line of its own, which a code host does not show:

    <!-- from the code: cli -->                   one of `WRITERS`
    <!-- from the docstrings: pagdeploy.build -->  mkdocstrings, which reads it
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import reprlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

if TYPE_CHECKING:
    from pydantic import BaseModel

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "build/docs-source"

# Files from elsewhere in the repository, by where they stand in the site.
BORROWED = {
    "trained-model.md": "examples/README.md",
    "rooms/maps.png": "examples/rooms/maps.png",
}

_ASKED = re.compile(r"^<!-- from the (code|docstrings): ([\w.]+) -->$", re.MULTILINE)
_PICTURE = re.compile(r"^(Before|After)(, .*)?:\n((?:    .*\n|\n)+)", re.MULTILINE)


def on_startup(command: str, dirty: bool) -> None:
    """Link the package together as it is installed, which its folders in the repository are not."""
    from pagdeploy import engines, examples, exporters

    package = SOURCE / "pagdeploy"
    package.mkdir(parents=True, exist_ok=True)
    folders = {module.__name__.rpartition(".")[2] for module in (engines, examples, exporters)}
    wanted = {path.name: path for path in (REPOSITORY / "pagdeploy").iterdir()}
    wanted |= {name: REPOSITORY / name for name in folders}
    for link in package.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, path in wanted.items():
        if not (package / name).is_symlink():
            (package / name).symlink_to(path)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is borrowed, and the manifest's schema as a file."""
    from pagdeploy.manifest import Manifest

    for target, source in BORROWED.items():
        files.append(File.generated(config, target, abs_src_path=str(REPOSITORY / source)))
    schema = json.dumps(Manifest.model_json_schema(), indent=2) + "\n"
    files.append(File.generated(config, "reference/manifest.schema.json", content=schema))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what the page asks for, and lead links out of this folder to what is borrowed."""
    depth = page.file.src_uri.count("/")
    for target, source in BORROWED.items():
        markdown = markdown.replace(
            f"]({'../' * (depth + 1)}{source}", f"]({'../' * depth}{target}"
        )
    return _ASKED.sub(_answer, markdown)


def _answer(asked: re.Match[str]) -> str:
    if asked[1] == "docstrings":
        return f"::: {asked[2]}"
    if asked[2] not in WRITERS:
        raise PluginError(f"Nothing is written for {asked[0]!r}; there is {', '.join(WRITERS)}.")
    return WRITERS[asked[2]]()


def commands() -> str:
    """Every command and its options, as typer writes them down."""
    done = subprocess.run(
        [sys.executable, "-m", "typer", "pagdeploy.cli", "utils", "docs", "--name", "pagdeploy"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.partition("\n")[2]  # the page has a title of its own


def exit_codes() -> str:
    """The errors that a user can see, by exit code."""
    from pagdeploy.errors import PagdeployError

    rows = [
        f"| {each.exit_code} | `{each.__name__}` | {_first_line(each)} |"
        for each in PagdeployError.__subclasses__()
    ]
    return "\n".join(["| exit code | error | meaning |", "|---|---|---|", *rows])


def manifest() -> str:
    """The classes of the manifest, the whole one first, with every field."""
    from pydantic import BaseModel

    from pagdeploy import manifest as module

    parts = [each for each in vars(module).values() if inspect.isclass(each)]
    parts = [each for each in parts if issubclass(each, BaseModel) and each.model_fields]
    return "\n\n".join(map(_fields, reversed(parts)))


def _fields(model: type[BaseModel]) -> str:
    sections = griffe.Docstring(inspect.getdoc(model) or "").parse("google", warnings=False)
    meaning = {
        field.name: " ".join(field.description.split())
        for section in sections
        if section.kind is griffe.DocstringSectionKind.attributes
        for field in section.value
    }
    columns = ["field", "type", "default", *(["meaning"] if meaning else [])]
    rows = [columns, ["---"] * len(columns)]
    for name, field in model.model_fields.items():
        kind = inspect.get_annotations(model)[name].replace(" | ", " or ")
        default = "required" if field.is_required() else f"`{reprlib.repr(field.default)}`"
        rows.append([f"`{name}`", f"`{kind}`", default, meaning.get(name, "")][: len(columns)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"## {model.__name__}\n\n{sections[0].value}\n\n{table}"


def order() -> str:
    """The pipelines, word for word, with the reasons for their order."""
    from pagdeploy import pipeline

    source = inspect.getsource(pipeline)
    statements = [
        ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) in ("RECOGNITION", "PIPELINES")
    ]
    return "```python\n" + "\n\n".join(filter(None, statements)) + "\n```"


def passes() -> str:
    """Every pass in the order of its first use, with its picture."""
    from pagdeploy.pipeline import PIPELINES

    used: dict[str, list[str]] = {}
    for lowering, modules in PIPELINES.items():
        for module in modules:
            lowerings = used.setdefault(module.__name__, [])
            if lowering not in lowerings:
                lowerings.append(lowering)
    return "\n\n".join(_pass(name, lowerings) for name, lowerings in used.items())


def _pass(module: str, lowerings: list[str]) -> str:
    name = module.rpartition(".")[2]
    text = inspect.getdoc(importlib.import_module(module)) or ""
    pictures = [
        f"<div markdown>\n**{title}{condition or ''}**\n\n"
        f"```text\n{textwrap.dedent(drawing).strip()}\n```\n</div>"
        for title, condition, drawing in _PICTURE.findall(text + "\n")
    ]
    summary, _, rest = _PICTURE.sub("", text + "\n").partition("\n\n")
    return "\n\n".join(
        [
            f"## `{name}`",
            summary,
            f"*In the lowerings {', '.join(lowerings)}.*",
            '<div class="pictures" markdown>\n' + "\n".join(pictures) + "\n</div>",
            rest.strip(),
        ]
    )


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


WRITERS: Mapping[str, Callable[[], str]] = {
    "cli": commands,
    "exit_codes": exit_codes,
    "manifest": manifest,
    "order": order,
    "passes": passes,
}
"""What a page can ask for."""

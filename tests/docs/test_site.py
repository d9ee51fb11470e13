"""The site builds with warnings as errors, says what the code says, and loads nothing from afar."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.house.tree import REPOSITORY

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings_handlers.python")
pytestmark = pytest.mark.slow

# Tags whose address is fetched when the page is shown; a link is fetched only when it is followed.
FETCHED = {"audio", "embed", "iframe", "img", "link", "object", "script", "source", "video"}


def build(
    folder: Path, config: Path = REPOSITORY / "mkdocs.yml"
) -> subprocess.CompletedProcess[str]:
    """Build the site into a folder."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


class _Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in FETCHED:
            self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "data") and v]


def fetched(html: str) -> list[str]:
    """The addresses from elsewhere that a browser fetches to show a page."""
    parser = _Fetched()
    parser.feed(html)
    return [each for each in parser.addresses if re.match(r"(https?:)?//", each)]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    assert {page.name: found for page in pages if (found := fetched(page.read_text()))} == {}
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s+)[\"']?(https?:)?//", sheet.read_text()), sheet


def test_planted_address_is_found() -> None:
    assert fetched('<a href="https://a/b"></a><script src="//c/d.js"></script>') == ["//c/d.js"]


def test_every_command_has_its_place(site: Path) -> None:
    from pagdeploy.cli import app

    page = (site / "reference/cli.html").read_text()
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(names) > 5
    assert [name for name in names if f"pagdeploy {name}</code>" not in page] == []


def test_every_pass_has_its_pictures(site: Path) -> None:
    from pagdeploy.pipeline import PIPELINES

    page = (site / "design/passes.html").read_text()
    names = {each.__name__.rpartition(".")[2] for passes in PIPELINES.values() for each in passes}
    assert {name for name in names if f"<code>{name}</code>" not in page} == set()
    assert page.count("<strong>Before") == len(names) <= page.count("<strong>After")


def test_every_error_has_its_exit_code(site: Path) -> None:
    from pagdeploy.errors import PagdeployError

    page = (site / "reference/errors.html").read_text()
    for error in PagdeployError.__subclasses__():
        assert re.search(rf"<td>{error.exit_code}</td>\s*<td><code>{error.__name__}</code>", page)


def test_schema_is_that_of_the_manifest(site: Path) -> None:
    from pagdeploy.manifest import Manifest

    schema = json.loads((site / "reference/manifest.schema.json").read_text())
    assert schema == Manifest.model_json_schema()
    page = (site / "reference/manifest.html").read_text()
    fields = {name for part in schema["$defs"].values() for name in part["properties"]}
    assert [name for name in fields if f"<td><code>{name}</code></td>" not in page] == []


def test_links_out_of_the_docs_are_to_files() -> None:
    """Pages are read on a code host, too, where a link to the repository has to lead somewhere."""
    faults = []
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if ":" not in target and not (page.parent / target).exists():
                faults.append(f"{page.relative_to(REPOSITORY)}: {target}")
    assert faults == ["docs/reference/manifest.md: manifest.schema.json"]  # made with the site


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Planted\n\n[nowhere](nowhere.md)\n")
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[0]
    text = text.replace("docs/hooks.py", str(REPOSITORY / "docs/hooks.py"))
    (tmp_path / "mkdocs.yml").write_text(text)
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr

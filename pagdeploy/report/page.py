"""The page that every report is: its head, its styles, its script, and what it may not do.

The policy in its head lets nothing be fetched and no script run but the page's own, known by its
digest, even if a name should ever find its way past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from pagdeploy.report.html import NEWLINE, Html, element, join


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading, and its entry in the page's contents.
        parts: Below each other; a section without parts is left out.
    """

    title: str
    parts: Sequence[object]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: What it is of.
        lead: What was found, in one sentence.
        passed: Whether that is good; None where there is nothing to judge.
        sections: In order.
    """

    title: str
    lead: str
    passed: bool | None = None
    sections: Sequence[Section] = field(default_factory=list)


def write_page(path: Path, page: Page) -> None:
    """Write a page as one UTF-8 file; the same page gives the same bytes."""
    path.write_text(render(page), encoding="utf-8", newline="\n")


def render(page: Page) -> str:
    """The page as text."""
    shown = [section for section in page.sections if any(str(part) for part in section.parts)]
    numbered = [(f"s{number}", section) for number, section in enumerate(shown, 1)]
    word = "" if page.passed is None else element("strong", "PASSED " if page.passed else "FAILED ")
    kind = "" if page.passed is None else " good" if page.passed else " bad"
    body = [
        element("h1", page.title),
        element("p", word, page.lead, kind=f"lead verdict{kind}"),
        element("nav", *(element("a", _short(s.title), href=f"#{name}") for name, s in numbered))
        if len(shown) > 2
        else "",
        *(
            element("section", element("h2", s.title), NEWLINE, join(s.parts), id=name)
            for name, s in numbered
        ),
    ]
    style, script = _asset("report.css"), _asset("report.js")
    head = [
        element("meta", charset="utf-8"),
        _policy(style, script),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="pagdeploy"),
        element("title", page.title),
        element("style", Html(style)),
    ]
    content = join(
        [
            element("head", NEWLINE, join(head), NEWLINE),
            element("body", NEWLINE, join([*body, element("script", Html(script))]), NEWLINE),
        ]
    )
    return f"<!DOCTYPE html>\n{element('html', NEWLINE, content, NEWLINE, lang='en')}\n"


def _short(title: str) -> str:
    return title.partition(";")[0].partition(":")[0]


def _policy(style: str, script: str) -> Html:
    rules = {
        "default-src": "'none'",
        "script-src": _digest(script),
        "style-src": _digest(style),
        "style-src-attr": "'unsafe-inline'",  # drawings have styles on their elements
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    content = "; ".join(f"{name} {value}" for name, value in rules.items())
    return element("meta", http_equiv="Content-Security-Policy", content=content)


def _digest(text: str) -> str:
    found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{found}'"


@cache
def _asset(name: str) -> str:
    file = resources.files("pagdeploy.report") / name
    return file.read_text(encoding="utf-8")

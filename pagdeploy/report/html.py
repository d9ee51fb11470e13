"""Markup that is safe by construction: whatever is not markup already is escaped.

Names in a report come from models that nobody vouches for, so no function here takes text for
markup.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

Cell = object
_VOID = frozenset({"br", "img", "meta"})
_NAME = re.compile(r"[a-z][a-z0-9-]*")


class Html(str):
    """Text that is markup; only this room makes it."""

    __slots__ = ()


NEWLINE = Html("\n")


def printable(text: str) -> str:
    """Text with nothing in it that cannot be seen: no control characters, no turned direction."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text
    )


def escape(value: object) -> Html:
    """Any value as markup that shows it; markup stays as it is, a real number gets four digits."""
    if isinstance(value, Html):
        return value
    text = f"{value:.4g}" if isinstance(value, float) else printable(str(value))
    # What is no character at all cannot be written as UTF-8.
    return Html(html.escape(text.encode("utf-8", "backslashreplace").decode(), quote=True))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        tag: Its name.
        children: Markup, or anything else, which is escaped.
        attributes: By name; "kind" is the class, an underscore stands for a hyphen, and None
            leaves an attribute out.
    """
    written = [tag]
    for name, value in attributes.items():
        if value is None:
            continue
        key = "class" if name == "kind" else name.replace("_", "-")
        if not _NAME.fullmatch(key.lower()):
            raise ValueError(f"no attribute is called {key!r}")
        written.append(f'{key}="{escape(value)}"')
    if not _NAME.fullmatch(tag):
        raise ValueError(f"no element is called {tag!r}")
    opening = f"<{' '.join(written)}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{''.join(escape(child) for child in children)}</{tag}>")


def join(parts: Iterable[object], between: str = "\n") -> Html:
    """Parts below each other."""
    return Html(between.join(escape(part) for part in parts))


def paragraph(*children: object, kind: str | None = None) -> Html:
    """A paragraph."""
    return element("p", *children, kind=kind)


def note(text: object) -> Html:
    """A sentence that must not be overlooked."""
    return paragraph(text, kind="note")


def facts(entries: Mapping[str, object] | Iterable[tuple[str, object]]) -> Html:
    """A list of terms with what is to be said of each."""
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    lines = [part for term, said in pairs for part in (element("dt", term), element("dd", said))]
    return element("dl", join(lines))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str | None = None
) -> Html:
    """A table whose columns sort on a click; numbers stand to the right.

    Args:
        columns: Their headings.
        rows: Cells, one a column; "" says nothing, and a column that says nothing is left out.
        caption: What it shows.
    """
    told = [i for i in range(len(columns)) if not rows or any(row[i] != "" for row in rows)]
    columns, rows = [columns[i] for i in told], [[row[i] for i in told] for row in rows]
    kinds = [
        "number" if any(_is_number(r[i]) for r in rows) and _numeric(r[i] for r in rows) else None
        for i in range(len(columns))
    ]
    heads = [
        element("th", element("button", column, type="button"), kind=kind, scope="col")
        if len(rows) > 1 and column
        else element("th", column, kind=kind, scope="col")
        for column, kind in zip(columns, kinds, strict=True)
    ]
    lines = [
        element("tr", *(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else "",
            element("thead", element("tr", *heads)),
            NEWLINE,
            element("tbody", join(lines)),
        ),
        kind="wide",
        tabindex=0,
    )


def _cell(cell: Cell, kind: str | None) -> Html:
    # Sorting needs all digits, and reading does not.
    full = repr(cell) if isinstance(cell, float) else None
    return element("td", cell, kind=kind, data_value=full)


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _numeric(cells: Iterable[Cell]) -> bool:
    return all(cell == "" or _is_number(cell) for cell in cells)


def image(png: bytes, alt: str, *, kind: str | None = None) -> Html:
    """A PNG inside of the page."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return element("img", src=source, alt=alt, kind=kind)


def tile(title: str, picture: Html, below: object = "") -> Html:
    """A picture with its title, and what is to be said of it."""
    return element(
        "figure", element("figcaption", element("strong", title)), picture, below, kind="tile"
    )


def tiles(parts: Iterable[Html]) -> Html:
    """Tiles beside each other, as many as there is room for."""
    return element("div", join(parts), kind="tiles")


def legend(entries: Iterable[tuple[tuple[int, int, int], object]]) -> Html:
    """Colours with their meaning.

    Args:
        entries: RGB in 0..255, and what it means.
    """
    return element(
        "ul",
        join(element("li", _swatch(colour), " ", meaning) for colour, meaning in entries),
        kind="legend",
    )


def _swatch(colour: tuple[int, int, int]) -> Html:
    red, green, blue = (int(part) for part in colour)
    square = element("rect", width=12, height=12, fill=f"rgb({red},{green},{blue})")
    return element("svg", square, width=12, height=12, aria_hidden="true", kind="swatch")


def details(summary: object, *children: object) -> Html:
    """What is shown on a click."""
    return element("details", element("summary", summary), join(children))


_ID = re.compile(r'(\bid="|href="#|url\(#)')
_drawn = re.compile(
    r"<(\?xml|!DOCTYPE)[^>]*>|<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", re.S
)


def drawings(texts: Sequence[str]) -> list[Html]:
    """SVG files that a drawing library wrote as elements of one page.

    Their styles and namespaces go, because the page has its own, and ids become unique.

    Args:
        texts: Whole files, whose text was escaped by who wrote them.
    """
    found = []
    for number, text in zip(count(1), texts):
        body = _drawn.sub("", text[text.index("<svg") :])
        body = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", body)
        found.append(Html(_ID.sub(rf"\g<1>f{number}-", body)))
    return found

"""Markup, pictures and pages: nothing that a model says is ever taken for markup."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagdeploy.report import maps, png
from pagdeploy.report.charts import Bars, histogram
from pagdeploy.report.html import (
    Html,
    details,
    drawings,
    element,
    escape,
    facts,
    legend,
    note,
    table,
    tile,
)
from pagdeploy.report.page import Page, Section, render

VOID = ("meta", "link", "br", "img")


class Read(HTMLParser):
    """What a page holds: its elements, its text, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></script><svg onload=alert(1)>",
    "]]>--><iframe src=javascript:alert(1)>",
    "&lt;b&gt; $\\frac{1}$ \x00\x1b[2J\u202egnp.exe \ud800",
]


def everything(word: str) -> Page:
    """A page with a word from a model in every place where one can stand."""
    parts = [
        element("p", word, title=word),
        note(word),
        facts({word: word}),
        table([word, "n"], [[word, 1.0], [word, 2]], caption=word),
        tile(word, element("p"), word),
        legend([((1, 2, 3), word)]),
        details(word, word),
        histogram([Bars(word, "#123456", [1, 2])], [(0, word)], (1, word), word),
        maps.branch_tile(word, np.zeros((2, 2), np.int32), 2, [1]),
    ]
    return Page(word, word, passed=True, sections=[Section(word, parts)] * 3)


@pytest.mark.parametrize("word", ATTACKS)
def test_what_a_model_says_is_never_markup(word):
    harmless, page = Read(render(everything("name"))), Read(render(everything(word)))
    assert page.tags == harmless.tags and page.open == [] and page.handlers == []
    assert all(each.startswith(("#s", "data:image/png;base64,")) for each in page.addresses)


@given(st.text())
def test_escaped_text_comes_back_as_it_was_where_it_can_be_seen(word):
    page = Read(element("p", word))
    assert page.tags == ["p"]
    if word.isprintable():
        assert page.text == word
    assert page.text.isprintable()


def test_markup_is_not_escaped_twice_and_text_beside_it_is():
    assert element("b", "<") == "<b>&lt;</b>"
    assert escape(element("b", "<")) == "<b>&lt;</b>"
    assert escape(element("b") + "<i>") == "&lt;b&gt;&lt;/b&gt;&lt;i&gt;", "text makes it text"
    assert isinstance(escape("x"), Html)


def test_names_of_elements_and_attributes_come_from_us_alone():
    with pytest.raises(ValueError, match="no element is called"):
        element("p onload=x")
    with pytest.raises(ValueError, match="no attribute is called"):
        element("p", **{"a b": 1})


def test_the_page_is_one_file_and_says_what_it_may_do():
    text = render(everything("name"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src &#x27;none&#x27;" in policy[1] and "unsafe-eval" not in policy[1]
    assert text.index("Content-Security-Policy") < text.index("<style") < text.index("<body")
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert render(everything("name")) == text


def test_a_column_that_says_nothing_is_left_out_and_numbers_keep_their_digits():
    text = table(["a", "b"], [["x", ""], ["y", ""]])
    assert ">b<" not in text and ">a<" in text
    assert 'data-value="0.123456789"' in table(["a"], [[0.123456789], [1.0]])
    assert "<button" not in table(["a"], [[1]]), "one row needs no sorting"


def test_drawings_lose_their_namespaces_and_share_no_ids():
    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C" "http://w3">\n'
        '<svg xmlns="http://www.w3.org/2000/svg"><metadata>http://x</metadata>'
        '<defs>\n<style type="text/css">*{fill: red}</style>\n</defs>'
        '<path id="a"/><use xlink:href="#a" clip-path="url(#a)"/></svg>'
    )
    one, two = drawings([svg, svg])
    assert one == '<svg><path id="f1-a"/><use xlink:href="#f1-a" clip-path="url(#f1-a)"/></svg>'
    assert 'id="f2-a"' in two


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 31)])
def test_pngs_hold_what_they_were_given(size):
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    with Image.open(io.BytesIO(png.rgb_png(pixels))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    palette, indices = rng.integers(0, 256, (7, 3), np.uint8), rng.integers(0, 7, size)
    with Image.open(io.BytesIO(png.indexed_png(indices, palette))) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette[indices])


def _pixels(markup: str) -> np.ndarray:
    """The first picture of some markup, RGB."""
    import base64

    from PIL import Image

    found = re.search(r"base64,([^\"]*)", markup)
    assert found is not None
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_one_flip_in_a_large_map_stays_visible():
    forced = np.zeros((700, 1000), bool)
    forced[333, 777] = True
    shown = _pixels(maps.flip_tile("g", forced, forced, forced))
    assert shown.shape[1] <= 160
    assert (shown == (200, 0, 0)).all(axis=2).sum() == 1
    text = maps.flip_tile("g", forced, ~forced & forced, forced)
    assert "near a tie: 1<" in text and "unexplained: 0<" in text and "agrees: 699,999<" in text


def test_a_branch_map_tells_shares_and_what_is_no_branch():
    selection = np.array([[0, 1], [1, 9]], np.int32)
    text = maps.branch_tile("g", selection, 2, [1])
    assert "0 (skips): 25.0%" in text and "1: 50.0%" in text and "no branch: 25.0%" in text
    shown = _pixels(text)
    assert (shown[0, 1] == shown[1, 0]).all() and len({tuple(p) for p in shown.reshape(-1, 3)}) == 3


def test_an_error_beyond_its_bound_or_not_finite_stands_out():
    error = np.array([[0.0, 1e-3], [2e-3, np.inf], [np.nan, 1e-9]])
    text = maps.error_tile("y", error, 1e-3)
    assert "beyond the bound: 3 pixels" in text
    beyond = (_pixels(text) == (200, 0, 0)).all(axis=2)
    np.testing.assert_array_equal(beyond, [[False, False], [True, True], [True, False]])


@pytest.mark.parametrize("many", [2, 16, 17, 255, 256, 1000])
def test_any_number_of_branches_and_gates_can_be_shown(many):
    selection = np.arange(many, dtype=np.int32).reshape(1, -1).repeat(2, axis=0)
    text = maps.branch_tile("g", selection, many, [1])
    assert _pixels(text).shape[:2] == (2, many) if many <= 640 else _pixels(text).shape[1] <= 640
    counts = np.linspace(0, many, 7).reshape(1, 7).round()
    shown = _pixels(maps.count_tile("g", counts, many, "gates"))
    assert shown.shape == (1, 7, 3)
    lightness = shown.astype(int).sum(axis=2)[0]
    assert lightness[0] < lightness[3] < lightness[-1]

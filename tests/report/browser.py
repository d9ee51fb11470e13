"""A real browser without a window, where playwright and a Chromium are installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str:
    """Where the browser is; skips the test where there is none."""
    pytest.importorskip("playwright.sync_api", reason="no playwright (pip install playwright)")
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on the path (apt install chromium)")
    return found


class Visit:
    """One page in the browser, and what it did while it was open.

    Attributes:
        page: Playwright's.
        faults: What it wrote on the console, and errors of its script.
        requests: What it asked for, besides itself and what lies inside of it.
    """

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.faults, self.requests = page, [], []
        here = path.resolve().as_uri()
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self._requested(request.url, here))
        page.goto(here)

    def _requested(self, address: str, here: str) -> None:
        if address != here and not address.startswith("data:"):
            self.requests.append(address)

    def column(self, table: int, column: int) -> list[str]:
        """The cells of one column, in the order in which they stand."""
        found: list[str] = self.page.evaluate(
            "([t, c]) => [...document.querySelectorAll('table')[t].tBodies[0].rows]"
            ".map(row => row.cells[c].textContent)",
            [table, column],
        )
        return found

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        extra: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return extra


@contextmanager
def visiting(path: Path, width: int) -> Iterator[Visit]:
    """Open a file in a window of that width."""
    executable = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield Visit(browser.new_page(viewport={"width": width, "height": 844}), path)
        finally:
            browser.close()

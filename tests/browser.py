"""A headless Chromium for the tests: the machine's own, or the one that playwright brought."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@dataclass
class Seen:
    """A page as the browser has it, and all it complained of or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(path: Path, width: int = 1100, scheme: str = "light") -> Iterator[Seen]:
    """Open a file; skip where there is no browser, saying what is lost."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pages are not tested in a browser")
    with playwright.sync_playwright() as p:
        own = next(filter(None, map(shutil.which, NAMES)), None)
        if own is None and not Path(p.chromium.executable_path).is_file():
            pytest.skip("no Chromium (`make browser` installs one): pages are not tested in a browser")
        browser = p.chromium.launch(executable_path=own, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        seen = Seen(page)
        page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(path.resolve().as_uri())
        yield seen
        browser.close()

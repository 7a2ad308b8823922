"""`make report-picture`: draw docs/images/report.png, the page of a run on a desktop and, dark, on a phone."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from mixgan_cli.runtime.io import atomic_write
from tests.browser import opened

PICTURE = Path(__file__).parent / "images" / "report.png"
HEIGHT, GAP = 1300, 12
"""Height of the picture, and width between the windows [pixels]."""
KMEANS = 1
"""Refinement of the 256 colours to which the picture is reduced, for half the size."""


def draw(page: Path, to: Path) -> Path:
    """Draw the beginning of a page on a desktop, and next to it what a phone shows from the tree on."""
    desk = _screenshot(page, 1280, "light", "body", 0.55)
    phone = _screenshot(page, 390, "dark", "figure:has(img[alt^=Tree])", 0.75)
    picture = Image.new("RGB", (desk.width + GAP + phone.width, HEIGHT), "white")
    picture.paste(desk, (0, 0))
    picture.paste(phone, (desk.width + GAP, 0))
    with atomic_write(to) as temporary:
        few = picture.quantize(method=Image.Quantize.FASTOCTREE, kmeans=KMEANS, dither=Image.Dither.NONE)
        few.save(temporary, format="PNG", optimize=True)
    return to


def _screenshot(page: Path, width: int, scheme: str, first: str, scale: float) -> Image.Image:
    """Return what a window shows of a page.

    Args:
        page: the HTML file.
        width: width of the window [CSS pixels].
        scheme: light or dark.
        first: selector of the element at the top of the window.
        scale: pixels of the picture per CSS pixel.
    """
    with opened(page, width, scheme) as seen:
        seen.page.set_viewport_size({"width": width, "height": round(HEIGHT / scale)})
        seen.page.locator(first).evaluate("element => element.scrollIntoView()")
        content = seen.page.screenshot()
    with Image.open(io.BytesIO(content)) as shot:
        return shot.convert("RGB").resize((round(width * scale), HEIGHT), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1]), PICTURE))

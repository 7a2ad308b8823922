"""The page in a real browser: it is self-contained, and readable in light and dark and on a phone."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mixgan_cli.reporting.page import GroupSection, Link, Page, PageTable, Picture, RunSection, ShareTable
from tests.browser import opened

HOSTILE = "<script>document.title = 'taken'</script>"


def png(width, height, color="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), color).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def page(tmp_path):
    wide = {f"metric_{number}": 1.0 for number in range(30)}
    run = RunSection(
        anchor="run-one", name=f"one {HOSTILE}", status="failed", error=HOSTILE,
        facts={"folder": HOSTILE * 5, "seed": 0},
        metrics=PageTable("Metrics", [{"metric": "fid", "value": 1.23456}]), unavailable={"kid": HOSTILE},
        protocol={"n_fake": 5, "reals": {"name": HOSTILE}},
        pictures=[
            Picture("Samples", HOSTILE, png(2000, 50)), Picture("Tree", HOSTILE, png(500, 9), png(500, 9, "blue")),
        ],
        shares=[ShareTable("Classes", "told", ["expert 0", "expert 1"], ["a", "b"], [[0.25, 0.75], [1.0, 0.0]])],
        tables=[PageTable("By level", [{"level": 1, "nmi": 0.5}])],
    )  # fmt: skip
    published = PageTable(
        "mnist", [{"source": "paper", "fid": "1.0 ± 0.1"}, {"source": "ours", "fid": "2.0"}], ["a source"]
    )
    rows = [
        {"run": Link("long", "#run-two"), "lr": "1e-05", "fid": "10.5 ± 0.1", **wide},
        {"run": [Link(HOSTILE, "folder"), Link("seed 1", "#run-one")], "lr": "–", "fid": "9.25", **wide},
        {"run": None, "lr": "0.5", "fid": None, **wide},
    ]
    table = PageTable("Configurations", rows, constants={"failed": 0, "name": HOSTILE})
    runs = [run, replace(run, anchor="run-two")]
    return Page(
        "A report",
        [
            GroupSection("group-1", f"digits {HOSTILE}", 3, [table], [Picture("fid", "over K", png(40, 30))], runs),
            GroupSection("group-2", "ring", 1, [], [], []),
        ],
        [published],
        [HOSTILE],
        [f"protocols differ: {number}" for number in range(20)],
    ).write(tmp_path / "index.html")


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (1100, "dark"), (390, "light")])
def test_page_renders_without_other_files(page, width, scheme):
    with opened(page, width, scheme) as seen:
        of = seen.page.evaluate
        assert seen.page.title() == "A report" and not seen.complaints
        assert [url for url in seen.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
        sizes = of("[...document.images].map(image => [image.naturalWidth, image.naturalHeight])")
        assert sizes == [[40, 30], *2 * [[2000, 50], [500, 9]]]
        assert of("document.documentElement.scrollWidth") <= width  # only tables scroll sideways
        assert of(
            "[...document.querySelectorAll('.paper')].every(box => box.getBoundingClientRect().right <= innerWidth)"
        )
        assert of("document.images[2].width") == 500  # text of figures is as large on a phone
        ink, ground = (of(f"getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor"))
        assert (brightness(ink) > brightness(ground)) == (scheme == "dark")


def test_page_shows_tables_shares_links_and_escaped_text(page):
    with opened(page) as seen:
        of = seen.page.evaluate
        assert of("[...document.querySelectorAll('tr.ours')].map(row => row.innerText.split('\\t'))") == [
            ["ours", "2.0"]
        ]
        shades = of(
            "[...document.querySelectorAll('td.share')].slice(0, 4).map(cell => getComputedStyle(cell).backgroundColor)"
        )
        assert len(set(shades)) == 4
        assert of("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))")
        assert of("document.querySelector('dd').innerText").startswith(HOSTILE)  # shown as text
        assert of("[...document.images].every(image => image.alt)")
        ids = of("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(ids) == len(set(ids)) and {"group-1", "group-2", "published", "run-one"} <= set(ids)
        assert of("document.scripts.length") == 1  # the page's own
        assert "1.235" in of("document.body.innerText")


def test_figures_follow_the_colour_scheme(page):
    def shown(scheme):
        with opened(page, scheme=scheme) as seen:
            return seen.page.evaluate("[...document.images].map(image => image.currentSrc)")

    light, dark = shown("light"), shown("dark")
    assert [one == other for one, other in zip(light, dark, strict=True)] == [True, True, False, True, False]


@pytest.mark.integ
def test_a_page_has_at_most_5_mb(tmp_path):
    """The pictures of a group come first, and then the first one of each run."""
    noise = [io.BytesIO() for _ in range(5)]
    for number, buffer in enumerate(noise):
        pixels = np.random.default_rng(number).integers(256, size=(1200, 1200, 3), dtype=np.uint8)  # 1.6 MB
        Image.fromarray(pixels).save(buffer, format="PNG")
    of_group, *pictures = (Picture(f"{n}", "", buffer.getvalue()) for n, buffer in enumerate(noise))
    empty = {"name": "", "status": "done", "error": None, "facts": {}, "metrics": None, "unavailable": {}}
    empty |= {"protocol": {}, "shares": [], "tables": []}
    runs = [RunSection(anchor=f"run-{n}", pictures=pictures[2 * n : 2 * n + 2], **empty) for n in range(2)]
    group = GroupSection("group-1", "", 2, [], [of_group], runs)
    path = Page("A report", [group], []).write(tmp_path / "index.html")
    text = path.read_text()
    assert 3e6 < path.stat().st_size < 5e6 and "Pictures left out to keep this page small: 3." in text
    assert re.findall("<b>(.).</b>", text) == ["0", "1"]


def test_a_picture_that_is_damaged_is_shown_as_it_is():
    damaged = png(30, 20)[:60]
    assert Picture("", "", damaged).source.startswith("data:image/png;base64,")
    assert Picture("", "", png(300, 200)).source.startswith("data:image/webp;base64,")


def test_reasons_for_incomparability_are_folded(page):
    with opened(page) as seen:
        assert "protocols differ" not in seen.page.inner_text("body")
        seen.page.click("header summary")
        assert seen.page.inner_text("header").count("protocols differ") == 20


def test_columns_are_sorted_by_their_heading(page):
    with opened(page) as seen:

        def after_pressing(heading, column):
            seen.page.click(f"#group-1 ~ section th button:text-is('{heading}')")
            rows = "document.querySelectorAll('#group-1 ~ section tbody')[0].rows"
            return seen.page.evaluate(f"[...{rows}].map(row => row.cells[{column}].innerText)")

        assert after_pressing("fid", 2) == ["9.25", "10.5 ± 0.1", "–"]  # numbers by size, missing ones last
        assert after_pressing("fid", 2) == ["10.5 ± 0.1", "9.25", "–"]
        assert after_pressing("lr", 1) == ["1e-05", "0.5", "–"]
        assert seen.page.get_attribute("th[aria-sort]", "aria-sort") == "ascending"


def test_cells_lead_to_runs_and_constants_are_above(page):
    with opened(page) as seen:
        links = seen.page.eval_on_selector_all("td a", "links => links.map(link => link.getAttribute('href'))")
        assert links == ["#run-two", "folder", "#run-one"]
        assert f"In all rows: failed 0, name {HOSTILE}." in seen.page.inner_text("#group-1 ~ section")


def brightness(color):
    return sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(",")))

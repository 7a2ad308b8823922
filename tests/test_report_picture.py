"""The picture of the report in README and docs, and the target that makes it."""

from PIL import Image

from docs import report_picture
from mixgan_cli.reporting.page import GroupSection, Page, Picture, RunSection
from tests.reporting.test_page import png


def has_pure(picture, channel):
    """Whether there are pixels of this channel alone; the picture's colours are reduced."""
    return any(rgb[channel] > 240 and sum(rgb) < 270 for _, rgb in picture.getcolors(1 << 20))


def test_picture_has_a_light_desktop_and_a_dark_phone(tmp_path):
    empty = {"status": "done", "error": None, "facts": {}, "metrics": None, "unavailable": {}, "protocol": {}}
    pictures = [Picture("Tree", "", png(300, 300, "red"), png(300, 300, "blue"))]
    run = RunSection(anchor="run-1", name="run", pictures=pictures, shares=[], tables=[], **empty)
    page = Page("A report", [GroupSection("group-1", "digits", 1, [], [], [run])], []).write(tmp_path / "index.html")
    with Image.open(report_picture.draw(page, tmp_path / "report.png")) as picture:
        colours = picture.convert("RGB")
    assert colours.height == report_picture.HEIGHT
    desk, phone = (colours.crop((left, 0, right, 500)) for left, right in ((0, 700), (720, colours.width)))
    assert min(desk.getpixel((2, 2))) > 240 and max(phone.getpixel((5, 480))) < 60
    assert [has_pure(part, channel) for part in (desk, phone) for channel in (0, 2)] == [True, False, False, True]


def test_a_target_makes_the_picture():
    text = (report_picture.PICTURE.parents[2] / "Makefile").read_text()
    assert "\nreport-picture:" in text and "-m docs.report_picture outputs/" in text
    with Image.open(report_picture.PICTURE) as picture:
        assert picture.height == report_picture.HEIGHT

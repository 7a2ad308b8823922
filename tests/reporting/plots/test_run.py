"""Learning curves and grids of samples."""

import pytest
import torch
from PIL import Image

from mixgan_cli.reporting.plots.run import draw_curves, draw_snapshots, upper_left, write_grid


def test_curves_of_a_kind_share_a_panel():
    points = [(0, 1.0), (1, 2.0)]
    names = ["loss/generator", "loss/discriminator", "gate_usage/0", "gate_usage/1", "nmi_by_level/0", "nmi_by_level/1",
             "fid"]  # fmt: skip
    figure = draw_curves({**dict.fromkeys(names, points), "kid": [(0, 1.0)]})
    panels = {axes.get_title(): len(axes.lines) for axes in figure.axes}
    assert panels == {"losses": 2, "usage of the experts": 2, "nmi_by_level": 2, "fid": 1}
    assert figure.axes[1].get_legend().get_title().get_text() == "expert"
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "share of the samples", "nmi_by_level", "fid"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"images shown"}
    assert [tuple(xy) for xy in figure.axes[-1].lines[0].get_xydata()] == points


def test_a_single_point_is_not_a_curve():
    assert draw_curves({"fid": [(0, 1.0)]}) is None


@pytest.mark.parametrize(("side", "zoom"), [(8, 6), (64, 1)])
def test_small_images_are_enlarged_by_whole_pixels(tmp_path, side, zoom):
    write_grid(tmp_path / "grid.png", torch.zeros(4, 1, side, side, dtype=torch.uint8), columns=2)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == ((2 * side + 3) * zoom, (2 * side + 3) * zoom)


@pytest.mark.parametrize(("pictures", "shown"), [(20, [1, 5, 10, 15, 20]), (3, [1, 2, 3]), (1, [1])])
def test_snapshots_are_in_equal_steps_up_to_the_last(tmp_path, pictures, shown):
    paths = []
    for number in range(1, pictures + 1):  # each of its own grey
        paths.append(tmp_path / f"{1000 * number:09d}.png")
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(paths[-1])
    panels = draw_snapshots(paths).axes
    assert [axes.images[0].get_array()[5, 5, 0] // 10 for axes in panels] == shown
    assert [axes.get_title() for axes in panels] == [f"{number},000 images" for number in shown]


@pytest.mark.parametrize(("size", "cropped"), [((103, 103), (52, 52)), ((103, 21), (52, 21))])
def test_a_quarter_of_a_grid_is_shown(tmp_path, size, cropped):
    picture = Image.new("RGB", size)
    assert upper_left(picture, tmp_path).size == size  # a plot of points
    (tmp_path / "real.png").touch()
    assert upper_left(picture, tmp_path).size == cropped

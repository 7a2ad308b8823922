"""Learning curves and grids of samples."""

import pytest
import torch
from PIL import Image

from mixgan_cli.reporting.plots.run import draw_curves, write_grid


def test_curves_of_a_kind_share_a_panel():
    points = [(0, 1.0), (1, 2.0)]
    names = ["loss/generator", "loss/discriminator", "gate_usage/0", "gate_usage/1", "nmi_by_level/0", "nmi_by_level/1",
             "fid"]  # fmt: skip
    figure = draw_curves({**dict.fromkeys(names, points), "kid": [(0, 1.0)]})
    panels = {axes.get_title(): len(axes.lines) for axes in figure.axes}
    assert panels == {"losses": 2, "usage of the experts": 2, "nmi_by_level": 2, "fid": 1}
    assert [tuple(xy) for xy in figure.axes[-1].lines[0].get_xydata()] == points


def test_a_single_point_is_not_a_curve():
    assert draw_curves({"fid": [(0, 1.0)]}) is None


@pytest.mark.parametrize(("side", "zoom"), [(8, 6), (64, 1)])
def test_small_images_are_enlarged_by_whole_pixels(tmp_path, side, zoom):
    write_grid(tmp_path / "grid.png", torch.zeros(4, 1, side, side, dtype=torch.uint8), columns=2)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == ((2 * side + 3) * zoom, (2 * side + 3) * zoom)

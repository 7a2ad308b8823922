import pytest
import torch
from PIL import Image

from mixgan_cli.reporting.plots.toy2d import PANEL_SIDE, draw_levels, write_snapshots


@pytest.mark.parametrize(("pictures", "shown"), [(20, [1, 5, 10, 15, 20]), (3, [1, 2, 3]), (1, [1])])
def test_snapshots_are_in_equal_steps_up_to_the_last(tmp_path, pictures, shown):
    paths = []
    for number in range(1, pictures + 1):  # each of its own grey
        paths.append(tmp_path / f"{number:09d}.png")
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(paths[-1])
    write_snapshots(tmp_path / "figures" / "snapshots.png", paths)
    with Image.open(tmp_path / "figures" / "snapshots.png") as row:
        assert row.size == (PANEL_SIDE * len(shown), PANEL_SIDE)
        found = [row.getpixel((PANEL_SIDE * column + 5, 5))[0] // 10 for column in range(len(shown))]
    assert found == shown


def test_levels_have_panels_and_nodes_have_colours(tmp_path):
    """Two far leaves of four, each point one leaf's alone: from level 1 on they have two colours."""
    points = torch.cat((torch.randn(50, 2) / 5 - 1, torch.randn(50, 2) / 5 + 1))
    weights = torch.zeros(100, 4)
    weights[:50, 0], weights[50:, 3] = 1, 1
    draw_levels(points, weights, points).savefig(tmp_path / "levels.png")
    with Image.open(tmp_path / "levels.png") as picture:
        panel = picture.width // 3
        colours = []
        for level in range(3):
            crop = picture.convert("RGB").crop((level * panel, 0, (level + 1) * panel, picture.height))
            counts = crop.getcolors(1 << 20)
            colours.append({rgb for count, rgb in counts if max(rgb) - min(rgb) > 100 and count > 20})
    assert len(colours[0]) == 1 and len(colours[1]) >= 2 and len(colours[2]) >= 2

import torch
from PIL import Image

from mixgan_cli.reporting.plots.toy2d import draw_levels, draw_scatter


def test_points_outside_the_window_are_counted():
    fakes, reals = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, -9.0]]), torch.ones(4, 2)
    axes = draw_scatter(fakes, reals, torch.zeros(3, dtype=torch.long), "10 images").axes[0]
    assert axes.get_title() == "10 images\n2 of 3 generated points are outside"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x₁", "x₂")
    assert draw_levels(fakes, torch.ones(3, 1), reals).get_supxlabel() == "2 of 3 generated points are outside"
    assert draw_scatter(reals, reals, torch.zeros(4, dtype=torch.long), "10 images").axes[0].get_title() == "10 images"


def test_levels_have_panels_and_nodes_have_colours(tmp_path):
    """Two far leaves of four, each point one leaf's alone: from level 1 on they have two colours."""
    points = torch.cat((torch.randn(50, 2) / 5 - 1, torch.randn(50, 2) / 5 + 1))
    weights = torch.zeros(100, 4)
    weights[:50, 0], weights[50:, 3] = 1, 1
    figure = draw_levels(points, weights, points)
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes[1:]]
    assert legends == [["node 0", "node 1"], ["leaf 0", "leaf 1", "leaf 2", "leaf 3"]]
    figure.savefig(tmp_path / "levels.png")
    with Image.open(tmp_path / "levels.png") as picture:
        panel = picture.width // 3
        colours = []
        for level in range(3):
            crop = picture.convert("RGB").crop((level * panel, 0, (level + 1) * panel, picture.height))
            counts = crop.getcolors(1 << 20)
            colours.append({rgb for count, rgb in counts if max(rgb) - min(rgb) > 100 and count > 20})
    assert len(colours[0]) == 1 and len(colours[1]) >= 2 and len(colours[2]) >= 2

"""Files of figures."""

from matplotlib.figure import Figure
from PIL import Image

from mixgan_cli.reporting.plots.save import save_figure


def test_figures_have_a_dark_version(tmp_path):
    """Ground and ink are exchanged; an image and the text on it are not."""
    figure = Figure(figsize=(3, 3))
    axes = figure.add_subplot()
    axes.imshow([[[255, 0, 0]]])
    axes.text(0, 0, "on the image", color="#000000")
    axes.set_title("title")
    assert save_figure(figure, tmp_path, "plot") == tmp_path / "plot.png"
    light, dark = (Image.open(tmp_path / name).convert("RGB") for name in ("plot.png", "dark/plot.png"))
    assert light.size == dark.size and (tmp_path / "plot.pdf").is_file()
    corner, centre, title = (2, 2), (300, 300), (80, 0, 280, 42)
    centre = (light.width // 2 - 60, light.height // 2 + 40)
    assert light.getpixel(corner) == (255, 255, 255) and max(dark.getpixel(corner)) < 50
    assert light.getpixel(centre) == dark.getpixel(centre) == (255, 0, 0)
    assert light.crop(title).getextrema()[0][0] < 50 and dark.crop(title).getextrema()[0][1] > 200
    on_the_image = (light.width // 2, light.height // 2 - 20, light.width // 2 + 60, light.height // 2 + 5)
    assert light.crop(on_the_image).tobytes() == dark.crop(on_the_image).tobytes()

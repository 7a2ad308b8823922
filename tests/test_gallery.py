"""docs/gallery.md shows the generators that come with mixgan as they are."""

import numpy as np
from PIL import Image

from docs import gallery
from mixgan_cli.models.pretrained import pretrained_models


def test_page_and_pictures_are_those_of_the_generators(tmp_path, monkeypatch):
    """Pictures to one grey level, because another machine rounds otherwise."""
    page, pictures = gallery.PAGE, gallery.PICTURES
    monkeypatch.setattr(gallery, "PICTURES", tmp_path / "pictures")
    assert gallery.page() == page.read_text()
    gallery.draw()
    for name in pretrained_models():
        drawn, shown = (
            np.asarray(Image.open(each / f"{name}.png"), dtype=int) for each in (gallery.PICTURES, pictures)
        )
        assert drawn.shape == shown.shape and np.abs(drawn - shown).max() <= 1

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path):
    """A folder tree with one image of each mode, in several sizes and formats, and a text file."""
    root = tmp_path / "pictures"
    (root / "a" / "deep").mkdir(parents=True)
    (root / "b").mkdir()
    generator = np.random.default_rng(0)

    def noise(*shape, dtype=np.uint8):
        return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)

    Image.fromarray(noise(20, 30, 3)).save(root / "a" / "rgb.png")
    Image.fromarray(noise(64, 64, 3)).save(root / "a" / "deep" / "photo.JPG")
    Image.fromarray(noise(16, 16)).save(root / "a" / "grey.bmp")
    Image.fromarray(noise(40, 17, 4)).save(root / "b" / "transparent.png")
    Image.fromarray(noise(33, 21, 3)).convert("P").save(root / "b" / "palette.gif")
    Image.fromarray(noise(18, 18, 3)).convert("CMYK").save(root / "b" / "print.tiff")
    Image.fromarray(noise(16, 16, dtype=np.uint16)).save(root / "b" / "deep.png")
    Image.fromarray(noise(24, 24) > 128).save(root / "b" / "black-white.webp")
    (root / "readme.txt").write_text("no image")
    return root

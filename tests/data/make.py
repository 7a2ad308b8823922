"""Small copies of data sets, laid out as the official ones."""

import gzip
import pickle
import struct

import numpy as np
from PIL import Image

from mixgan_cli.data.datasets.folder import Folder

EACH = 4

FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]

PIXELS = np.random.default_rng(0).integers(0, 256, (6 * EACH, 3, 32, 32), dtype=np.uint8)

LABELS = np.arange(6 * EACH) % 10


def batch_of(number):
    part = slice(number * EACH, (number + 1) * EACH)
    return PIXELS[part].reshape(EACH, -1), LABELS[part]


def as_pickles(folder):
    for number, name in enumerate(FILES):
        data, labels = batch_of(number)
        batch = {b"batch_label": b"a batch", b"labels": labels.tolist(), b"data": data, b"filenames": [b"a.png"] * EACH}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))  # like the official files


def in_a_folder(write, to):
    folder = to / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    write(folder)
    return folder


COMMON = {"size": 16, "split_seed": 0, "skip_corrupt": False}


def picture(path, width, height, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(path, quality=100)


def everything(dataset):
    """{grey: label} of all images."""
    found = {}
    for part in (dataset.train, dataset.held_out):
        labels = [None] * len(part) if part.labels_N is None else part.labels_N.tolist()
        found |= dict(zip(part.images_NCHW.float().mean(dim=(1, 2, 3)).round().int().tolist(), labels, strict=True))
    return found


def write_idx(path, array):
    """Write an idx file as the MNIST page describes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def gzipped(folder):
    """Gzip each file of a folder, as the official archive does."""
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def folder(root, **changes):
    settings = {
        "size": 16, "crop": "center", "channels": 3, "held_out": 0.25, "split_seed": 0, "labels": False,
        "skip_corrupt": False,
    }  # fmt: skip
    return Folder(str(root), **(settings | changes))

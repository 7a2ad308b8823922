"""Pickled batches are read without running code."""

import pickle

import numpy as np
import pytest

from mixgan_cli.data import pickles
from tests.data.make import PIXELS


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol(protocol):
    batch = {"data": PIXELS[:2], "labels": [1, 2], "names": np.array(["a", "b"]), "raw": b"\x00\xff"}
    loaded = pickles.loads(pickle.dumps(batch, protocol=protocol))
    loaded = {key.decode() if isinstance(key, bytes) else key: value for key, value in loaded.items()}
    np.testing.assert_array_equal(loaded["data"], PIXELS[:2])
    assert loaded["labels"] == [1, 2] and loaded["raw"] == b"\x00\xff"

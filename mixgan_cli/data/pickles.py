"""Pickles that may hold arrays, numbers, text, lists and dicts, and nothing that runs code."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

MOST_PIECES = 2**20
"""Steps of a pickle, each of which may make an object; the largest batch has a few for each of 128,000 labels."""


class _Array:
    """Where a pickle names the class of arrays: as an argument, never to be called."""


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    return np.empty(0, np.uint8)  # what is in it comes after, and tells its own shape and type


def _encode(text: str, encoding: str) -> bytes:
    if not isinstance(text, str):
        raise pickle.UnpicklingError("it encodes what is no text")
    return text.encode("latin1")


ARRAY_PARTS = {
    "_reconstruct": _reconstruct,
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "ndarray": _Array,
    "dtype": np.dtype,
}
"""What numpy's arrays are put together from, whatever module a pickle's numpy had them in."""


def loads(content: bytes) -> Any:
    """Return what was pickled; text of Python 2 as bytes.

    Raises:
        pickle.UnpicklingError: it is damaged, or names anything but parts of arrays.
    """
    for count, _ in enumerate(pickletools.genops(content)):
        if count > MOST_PIECES:
            raise pickle.UnpicklingError(f"more than {MOST_PIECES:,} pieces, which is no batch of images")
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ARRAY_PARTS:
            return ARRAY_PARTS[name]
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 2's protocol spells them
            return _encode
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")

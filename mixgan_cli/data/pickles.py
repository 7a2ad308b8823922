"""Pickles that may hold arrays, numbers, text, lists and dicts, and nothing that runs code."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

ARRAY_PARTS = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}
"""What numpy's arrays are put together from, whatever module a pickle's numpy had them in."""


def loads(content: bytes) -> Any:
    """Return what was pickled; text of Python 2 as bytes.

    Raises:
        pickle.UnpicklingError: it is damaged, or names anything but parts of arrays.
    """
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ARRAY_PARTS:
            return ARRAY_PARTS[name]
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 2's protocol spells them
            return lambda text, encoding: str(text).encode("latin1")
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")

"""Read pickled batches of images without running code: only arrays, numbers, text, lists and dicts are accepted."""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

MAX_OPCODES = 2**20
"""Maximum number of instructions of a pickle, each of which may make an object. The largest real batch has a few for
each of 128,000 labels."""


class _Array:
    """Stands for the class of arrays, which a pickle names as an argument but must not call."""


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    return np.empty(0, np.uint8)  # the state that follows sets shape and type


def _encode(text: str, encoding: str) -> bytes:
    if not isinstance(text, str):
        raise pickle.UnpicklingError("encode() of something that is not text")
    return text.encode("latin1")


ARRAY_PARTS = {
    "_reconstruct": _reconstruct,
    "_frombuffer": np.empty(0).__reduce_ex__(5)[0],
    "ndarray": _Array,
    "dtype": np.dtype,
}
"""The names that pickled arrays use, in whatever module of numpy they were."""


def loads(content: bytes) -> Any:
    """Return the pickled object; text of Python 2 becomes bytes.

    Raises:
        pickle.UnpicklingError: it is damaged, or names anything but parts of arrays.
    """
    for count, _ in enumerate(pickletools.genops(content)):
        if count > MAX_OPCODES:
            raise pickle.UnpicklingError(f"more than {MAX_OPCODES:,} instructions; no batch of images has as many")
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ARRAY_PARTS:
            return ARRAY_PARTS[name]
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 stores bytes
            return _encode
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of an array")

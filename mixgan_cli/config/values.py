"""Types of values that schemas and components share, with what is accepted for them, and products of values in YAML."""

from __future__ import annotations

import json
import math
import os
import re
from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

BatchSize = Annotated[int, Field(gt=0, le=2**20)]
SampleCount = Annotated[int, Field(gt=0, le=2**24)]
"""Upper bounds on batch size and sample counts. Larger values would not fit in memory and are rejected as typos."""
Seed32 = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed of NumPy's generators, which torch-fidelity uses."""


def expand_home(path: str) -> str:
    """Return a path with the home folder for ~. Without a home folder it stays, where `Path.expanduser` would raise."""
    return os.path.expanduser(path)  # noqa: PTH111


def _as_path(value: Any) -> Any:
    """Return a path with the home folder for ~. Raises an error of pydantic if it is empty or has a null character."""
    if isinstance(value, str) and not value.strip():
        raise PydanticCustomError("empty_path", "the path is empty. Give one, or leave the key out")
    if isinstance(value, str) and "\0" in value:
        raise PydanticCustomError("null_character", "no path can have a null character")
    return expand_home(value) if isinstance(value, str) else value


def _as_checkpoint(value: Any) -> str:
    """Return the name of a checkpoint. Raises an error of pydantic if it is none."""
    if not re.fullmatch(r"last|best|\d[\d_]*", str(value), re.ASCII):
        raise PydanticCustomError("checkpoint", "a checkpoint is last, best or a number of images shown")
    return str(value)


def _values_as_text(value: Any) -> Any:
    """Return a mapping with its plain values as the command line has them."""
    if not isinstance(value, dict):
        return value
    return {key: each if isinstance(each, (str, dict, list)) else json.dumps(each) for key, each in value.items()}


Checkpoint = Annotated[str, BeforeValidator(_as_checkpoint)]
"""A checkpoint of a run: last, best, or a number of images shown."""
PathText = Annotated[str, BeforeValidator(_as_path)]
"""The path of a file or folder, as text."""
PathList = Annotated[
    tuple[PathText, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(min_length=1),
]
"""Paths; one alone needs no brackets."""
KeyValues = Annotated[dict[str, str], BeforeValidator(_values_as_text)]
"""Values of keys of the configuration, as the command line has them."""


def _product(*factors: Any) -> Any:
    """Return the product of integers. If a factor is something else, return that, which the check of a key refuses."""
    others = [factor for factor in factors if not isinstance(factor, int)]
    return others[0] if others else math.prod(factors)


OmegaConf.register_new_resolver("product", _product, replace=True)
"""In YAML, ${product:100,${model.pack}} is 100 times the value of another key."""

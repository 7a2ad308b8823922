"""The keys of the commands that do not train, with their types, such as those of `mixgan evaluate`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from mixgan_cli.config import components
from mixgan_cli.config.schema import Evaluation, Hardware, Strict
from mixgan_cli.config.values import Checkpoint, KeyValues, PathList, PathText, SampleCount


class EvaluateCommand(Strict):
    """`mixgan evaluate`: the images and the reference."""

    ignored = frozenset({"training"})
    run: PathText | None
    checkpoint: PathText
    images: PathText | None
    reference: PathText | None
    data: components.Data | None = None  # Hydra omits a group whose choice is null
    seed: NonNegativeInt | None
    to: PathText | None
    compare: PathText | None
    force: bool
    trusted: tuple[str, ...]
    evaluation: Evaluation
    hardware: Hardware

    @model_validator(mode="after")
    def _one_set_of_images(self) -> EvaluateCommand:
        if [self.run is None, self.images is None, self.state is None].count(False) != 1:
            raise ValueError("give either run=DIR (with checkpoint=last or best), checkpoint=FILE or images=PATH")
        if self.images is not None and self.reference is None and self.data is None:
            raise ValueError("images=PATH needs reference=PATH or data=NAME for comparison")
        return self

    @property
    def state(self) -> str | None:
        """The file of a checkpoint, or None if `checkpoint` names one of a run's checkpoints."""
        return None if re.fullmatch(r"last|best|\d[\d_]*", self.checkpoint) else self.checkpoint


class SampleCommand(Strict):
    """`mixgan sample`: the run, the number of samples, and the output."""

    run: PathText
    checkpoint: Checkpoint | None
    n: SampleCount
    seed: NonNegativeInt
    truncation: PositiveFloat | None
    expert: NonNegativeInt | None
    format: Literal["grid", "png", "npz"]
    to: PathText | None
    force: bool
    trusted: tuple[str, ...]
    hardware: Hardware


class ExportCommand(Strict):
    """`mixgan export`: the generator, the output folder, and whether to write ONNX."""

    run: PathText
    checkpoint: Checkpoint | None
    to: PathText | None
    onnx: bool
    dtype: Literal["float32", "float16", "bfloat16"]
    force: bool
    trusted: tuple[str, ...]


class ReportCommand(Strict):
    """`mixgan report`: the folders, the level of detail, and the output."""

    paths: PathList
    to: PathText | None
    details: NonNegativeInt
    metrics: tuple[str, ...] | None
    baseline: KeyValues | None
    redraw: bool
    checkpoint: Checkpoint | None
    force: bool
    trusted: tuple[str, ...]
    hardware: Hardware


class ListCommand(Strict):
    """`mixgan list`: the folders, and how the runs are listed."""

    paths: PathList
    sort: str | None
    descending: bool
    json_: Annotated[bool, Field(alias="json")]  # pydantic has a method json


class FetchCommand(Strict):
    """`mixgan fetch`: a data set, the Inception weights, or both."""

    ignored = frozenset({"training", "hardware"})
    data: components.Data | None = None  # Hydra omits a group whose choice is null
    weights: bool

    @model_validator(mode="after")
    def _something(self) -> FetchCommand:
        if self.data is None and not self.weights:
            raise ValueError("give data=NAME, or weights")
        return self

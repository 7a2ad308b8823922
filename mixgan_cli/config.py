"""What a run is made of, typed. The YAML files in conf/ hold the values; these classes say what is allowed.

Hydra composes, pydantic checks: every wrong key, type, choice or combination is found here, before anything is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from mixgan_cli import parts
from mixgan_cli.errors import ConfigError, nearest


def conf_dir() -> Path:
    """Return the folder of YAML files: inside the installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


def _checked_part(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"should be a group with a _target_, not {value!r}")
    try:
        return parts.check(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


Part = Annotated[dict[str, Any], BeforeValidator(_checked_part)]
Metric = Literal["fid", "inception_score", "kid", "prc", "ms_ssim", "knn", "mixture", "modes"]


class Strict(BaseModel):
    """A group in which every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Latent(Strict):
    """The prior of z: N(0, I), or uniform on [-1, 1]."""

    size: PositiveInt
    distribution: Literal["normal", "uniform"]


class Model(Strict):
    """A gate, K experts, what they share, and the discriminator's head."""

    name: str
    k: PositiveInt
    beta: NonNegativeFloat
    latent: Latent
    gate: Part
    experts: Part
    head: Part
    backbone: Part


class Adam(Strict):
    """Adam's settings for one network."""

    lr: PositiveFloat
    betas: tuple[NonNegativeFloat, NonNegativeFloat]
    amsgrad: bool


class Optimizers(Strict):
    """One optimiser a network."""

    generator: Adam
    discriminator: Adam


class Objective(Strict):
    """The game: an adversarial loss, a penalty on the discriminator, and who moves how often."""

    adversarial: Part
    penalty: Part
    d_steps: PositiveInt
    optimizer: Optimizers


class Training(Strict):
    """Length and rhythm, in real images shown to the discriminator."""

    nimg: PositiveInt
    batch: PositiveInt
    report_nimg: PositiveInt
    sample_nimg: PositiveInt | None
    evaluate_nimg: PositiveInt | None
    checkpoint_nimg: PositiveInt
    ema_half_life_nimg: NonNegativeInt
    ema_ramp_up: NonNegativeFloat | None


class Hardware(Strict):
    """Where and how it computes."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bf16"]
    channels_last: bool
    threads: PositiveInt | None
    deterministic: bool


class Evaluation(Strict):
    """The protocol: what is measured, on how many images, in which features."""

    metrics: tuple[Metric, ...]
    n_fake: PositiveInt
    n_real: PositiveInt
    ema: bool
    batch: PositiveInt
    seed: NonNegativeInt
    weights: str | None
    download: bool
    extractor: str
    feature_layer: Annotated[str, BeforeValidator(str)]
    splits: PositiveInt
    neighbours: PositiveInt
    neighbour_features: Literal["pixels", "inception"]
    ms_ssim_pairing: Literal["disjoint", "all"]

    @model_validator(mode="after")
    def _layer_of_inception(self) -> Evaluation:
        layers = ("64", "192", "768", "2048")
        if self.extractor == "inception-v3-compat" and self.feature_layer not in layers:
            raise ValueError(f"feature_layer={self.feature_layer}: the Inception network has {', '.join(layers)}")
        return self


class Logger(Strict):
    """Mirrors of metrics.jsonl."""

    sinks: dict[str, Part]


class Paths(Strict):
    """Where things land."""

    outputs: str
    run: str | None


class Run(Strict):
    """One training run."""

    seed: NonNegativeInt
    force: bool
    data: Part
    model: Model
    objective: Objective
    training: Training
    hardware: Hardware
    evaluation: Evaluation
    logger: Logger
    paths: Paths

    @model_validator(mode="after")
    def _beta_has_a_classifier(self) -> Run:
        head = self.model.head[parts.TARGET]
        if self.model.beta and not parts.attribute(head, "classifies_experts"):
            raise ValueError(
                f"model.beta={self.model.beta}: {head.rpartition('.')[2]} does not classify experts; take 0"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits_length(self) -> Run:
        if self.training.nimg < self.training.batch:
            raise ValueError(
                f"training.nimg={self.training.nimg} is less than one batch (training.batch={self.training.batch})"
            )
        return self


class EvaluateCommand(Strict):
    """`mixgan evaluate`: which images, against which."""

    run: str | None
    checkpoint: Literal["last", "best"]
    images: str | None
    reference: str | None
    data: Part | None = None  # Hydra leaves a group out whose choice is null
    seed: NonNegativeInt | None
    to: str | None
    trusted: tuple[str, ...]
    evaluation: Evaluation
    hardware: Hardware

    @model_validator(mode="after")
    def _one_set_of_images(self) -> EvaluateCommand:
        if (self.run is None) == (self.images is None):
            raise ValueError("give either run=DIR or images=PATH")
        if self.images is not None and self.reference is None and self.data is None:
            raise ValueError("images=PATH needs reference=PATH or data=NAME to be compared with")
        return self


class SampleCommand(Strict):
    """`mixgan sample`: how many pictures, of what, where to."""

    run: str
    n: PositiveInt
    seed: NonNegativeInt
    expert: NonNegativeInt | None
    format: Literal["grid", "png", "npz"]
    to: str | None
    trusted: tuple[str, ...]
    batch: PositiveInt
    hardware: Hardware


def parse(composed: DictConfig | dict[str, Any], schema: type[Strict]) -> Any:
    """Return the configuration as `schema`, a frozen and typed object.

    Raises:
        ConfigError: naming each key, its value, and what is allowed.
    """
    try:
        config: Any = OmegaConf.to_container(OmegaConf.create(composed), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key}: {reason}" if error.full_key else reason) from error
    try:
        return schema.model_validate(config)
    except ValidationError as error:
        raise ConfigError("\n".join(_readable(problem, config, schema) for problem in error.errors())) from error


def _readable(problem: Any, config: dict[str, Any], schema: type[Strict]) -> str:
    """One line for one of pydantic's problems: key=value, what is wrong, what would be right."""
    location = [str(step) for step in problem["loc"] if str(step) in _keys(config) or isinstance(step, int)]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        siblings = config
        for step in location[:-1]:
            siblings = siblings[step]
        known = set(_fields(schema, location[:-1]))
        return f"{key}: there is no such key.{nearest(location[-1], known)} Known here: {', '.join(sorted(known))}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{'.'.join(map(str, problem['loc']))}: missing"
    if problem["type"] == "value_error":
        return f"{key}.{message}" if key else message
    return f"{key}={problem['input']!r}: {message}"


def _keys(config: Any) -> set[str]:
    if not isinstance(config, dict):
        return set()
    return set(map(str, config)).union(*(_keys(value) for value in config.values()))


def _fields(schema: type[Strict], path: list[str]) -> list[str]:
    for step in path:
        schema = schema.model_fields[step].annotation  # type: ignore[assignment]
    return list(schema.model_fields)

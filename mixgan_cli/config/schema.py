"""What a run is made of, typed. The YAML files in conf/ hold the values; these classes say what is allowed.

Hydra composes, pydantic checks: every wrong key, type, choice or combination is found here, before anything is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from mixgan_cli.config import components, redact
from mixgan_cli.config.renamed import renamed
from mixgan_cli.errors import ConfigError, nearest


def conf_dir() -> Path:
    """Return the folder of YAML files: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


Batch = Annotated[int, Field(gt=0, le=2**20)]
Number = Annotated[int, Field(gt=0, le=2**24)]
"""Of samples in a batch, and of samples. What is beyond fits no machine, so it is a slip, and told before it fails."""


def _name(target: str) -> str:
    """The class's own name."""
    return target.rpartition(".")[2]


def _written(value: int | None) -> str:
    """The value as in YAML."""
    return "null" if value is None else str(value)


class Strict(BaseModel):
    """A group in which every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Latent(Strict):
    """The prior of z: N(0, I), or uniform on [-1, 1]."""

    size: Annotated[int, Field(gt=0, le=2**16)]
    distribution: Literal["normal", "uniform"]


class Model(Strict):
    """A gate, K experts, what they share, and the discriminator's head."""

    name: str
    k: Annotated[int, Field(gt=0, le=2**12)]
    beta: NonNegativeFloat
    latent: Latent
    gate: components.Gate
    experts: components.Experts
    head: components.Head
    backbone: components.Backbone

    @model_validator(mode="after")
    def _name_starts_a_folder_name(self) -> Model:
        components.folder_name(self.name)
        return self


class Optimizers(Strict):
    """One optimiser per network; the gate and the load balance may have their own."""

    generator: components.Optimizer
    discriminator: components.Optimizer
    gate: components.Optimizer | None
    balance: components.Optimizer | None


class Classifier(Strict):
    """How the classifier of experts learns, where the discriminator's head has one."""

    weight: NonNegativeFloat
    stop_gradient: bool
    scale: Literal["eq2", "literal"]


class Objective(Strict):
    """The game: what is played for, who moves how often, and on how many samples."""

    adversarial: components.Adversarial
    penalty: components.Call
    classifier: Classifier
    augment: components.Call | None
    competition: components.Call | None
    balance: components.Call | None
    d_steps: PositiveInt
    fakes: Literal["shared", "per_expert"]
    fake_weight: Literal["one", "k"]
    reuse_latents: bool
    optimizer: Optimizers

    @model_validator(mode="after")
    def _balance_has_an_optimiser(self) -> Objective:
        if self.balance and not (self.optimizer.gate or self.optimizer.balance):
            raise ValueError("balance: is a step of the gate's own. Give optimizer.gate or optimizer.balance")
        return self


class Training(Strict):
    """Length and rhythm, in real images shown to the discriminator."""

    nimg: PositiveInt | None
    epochs: PositiveInt | None
    batch: Batch
    fakes: Batch | None
    shuffle: bool
    flips: bool
    report_nimg: PositiveInt
    sample_nimg: PositiveInt | None
    figures: bool
    evaluate_nimg: PositiveInt | None
    checkpoint_nimg: PositiveInt
    keep: PositiveInt
    max_skipped: NonNegativeInt
    ema_half_life_nimg: NonNegativeInt
    ema_ramp_up: NonNegativeFloat | None

    @model_validator(mode="after")
    def _has_one_length(self) -> Training:
        if (self.nimg is None) == (self.epochs is None):
            raise ValueError(
                f"nimg={_written(self.nimg)} and training.epochs={_written(self.epochs)}: the length of the run is "
                "given in images or in epochs. Give one of them and set the other to null"
            )
        return self

    @property
    def total_nimg(self) -> int:
        """Length of the run in real images. Epochs must have been converted by `in_images`."""
        assert self.nimg is not None
        return self.nimg

    def in_images(self, n: int | None) -> Training:
        """Convert a length in epochs to images.

        Args:
            n: number of images in the training set; None if it has no fixed number.

        Raises:
            ConfigError: an epoch has no length, because the set has no fixed number of images.
        """
        if self.epochs is None:
            return self
        if n is None:
            raise ConfigError(
                f"training.epochs={self.epochs}: the data set has no fixed number of samples, so there is no epoch. "
                "Give training.nimg and training.epochs=null"
            )
        return self.model_copy(update={"nimg": self.epochs * n, "epochs": None})


class Alarms(Strict):
    """What is taken for a collapse; null: not watched."""

    quality: PositiveInt | None
    usage: Annotated[float, Field(gt=0, le=1)] | None
    active: Annotated[float, Field(gt=0, le=1)] | None
    stop: bool


class Hardware(Strict):
    """Where and how it computes."""

    device: Literal["auto", "cpu", "cuda"]
    devices: Annotated[int, Field(gt=0, le=2**10)] | Literal["auto"]
    nodes: Annotated[int, Field(gt=0, le=2**10)]
    rendezvous: str | None
    precision: Literal["auto", "float32", "tf32", "bf16"]
    channels_last: bool
    capture: bool | Literal["auto"]
    compile: bool
    data_on: Literal["auto", "device", "host", "disk"]
    threads: Annotated[int, Field(gt=0, le=2**10)] | None
    deterministic: bool

    @model_validator(mode="after")
    def _nodes_meet(self) -> Hardware:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"nodes={self.nodes}: they must find each other. Give hardware.rendezvous=HOST:PORT")
        return self


class Interim(Strict):
    """What is measured during training, more cheaply than at the end."""

    metrics: tuple[str, ...]
    n_fake: Number
    n_real: Number


class Evaluation(Strict):
    """The protocol: what is measured, on how many images, in which features."""

    name: str
    metrics: tuple[str, ...]
    n_fake: Number | None
    n_real: Number | None
    split: Literal["held_out", "train"]
    interim: Interim | None
    ema: bool
    batch: Batch
    seed: NonNegativeInt
    seeds: PositiveInt
    weights: str | None
    download: bool
    extractors: Annotated[tuple[str, ...], Field(min_length=1)]
    feature_layer: Annotated[str, BeforeValidator(str)]
    precision: Literal["float32", "bf16"]
    splits: PositiveInt
    neighbours: PositiveInt
    neighbour_features: Literal["pixels", "features"]
    ms_ssim_pairing: Literal["disjoint", "all"]

    @model_validator(mode="after")
    def _layer_of_inception(self) -> Evaluation:
        layers = ("64", "192", "768", "2048")
        if "inception-v3-compat" in self.extractors and self.feature_layer not in layers:
            raise ValueError(f"feature_layer={self.feature_layer}: the Inception network has {', '.join(layers)}")
        return self

    def cheaper(self) -> Evaluation:
        """Return the protocol by which a run is measured during training."""
        if self.interim is None:
            return self
        return self.model_copy(update={**dict(self.interim), "name": f"{self.name}_interim", "seeds": 1})


class Paths(Strict):
    """Where things land."""

    outputs: str
    run: str | None


class Sweep(Strict):
    """How many runs are made of one command."""

    name: str | None
    jobs: PositiveInt
    fail_fast: bool
    optimize: str | None
    direction: Literal["minimize", "maximize"]


class Sweeping(Strict):
    """What a sweep as a whole takes from the configuration."""

    sweep: Sweep


class Run(Strict):
    """One training run."""

    seed: NonNegativeInt
    force: bool
    data: components.Data
    model: Model
    objective: Objective
    schedule: components.Schedule
    training: Training
    alarms: Alarms
    hardware: Hardware
    evaluation: Evaluation
    logger: dict[str, components.Logger]  # names are the user's choice
    paths: Paths
    sweep: Sweep | None = None  # of no matter to the run; older runs have none

    @model_validator(mode="after")
    def _beta_has_a_classifier(self) -> Run:
        head = self.model.head[components.TARGET]
        if self.model.beta and not components.attribute(head, "classifies_experts"):
            raise ValueError(
                f"model.beta={self.model.beta}: {_name(head)} does not classify experts; take 0, or "
                "model/head=classifier"
            )
        return self

    @model_validator(mode="after")
    def _multiclass_takes_probabilities(self) -> Run:
        head, adversarial = self.model.head[components.TARGET], self.objective.adversarial[components.TARGET]
        if not components.attribute(head, "needs_probabilities"):
            return self
        if not components.attribute(adversarial, "probabilistic"):
            raise ValueError(
                f"objective.adversarial: {_name(head)} is one softmax over real and K experts, a probability; "
                f"{_name(adversarial)} takes the score for something else. Take objective=madgan, non_saturating or "
                "minimax, or model/head=classifier"
            )
        if self.objective.classifier.stop_gradient:
            raise ValueError(
                f"objective.classifier.stop_gradient=true: {_name(head)} has the same logits for both. "
                "Take false, or model/head=classifier"
            )
        return self

    @model_validator(mode="after")
    def _gate_serves_the_objective(self) -> Run:
        gate, objective = self.model.gate[components.TARGET], self.objective
        adversarial = objective.adversarial[components.TARGET]
        if objective.fake_weight == "k" and not components.attribute(adversarial, "probabilistic"):
            raise ValueError(
                f"objective.fake_weight=k: {_name(adversarial)} balances real against fake scores; take one"
            )
        if objective.balance and not components.attribute(gate, "trainable"):
            raise ValueError(f"objective.balance: {_name(gate)} learns nothing that could be balanced; take null")
        if objective.optimizer.gate and not components.attribute(gate, "trainable"):
            raise ValueError(f"objective.optimizer.gate: {_name(gate)} learns nothing; take null")
        if objective.competition:
            if not components.attribute(gate, "splits_batch") or not self.model.gate.get("same_latents"):
                raise ValueError(
                    "objective.competition: compares experts at the same latents. Take model/gate=uniform with "
                    "model.gate.same_latents=true, or objective.competition=null"
                )
            if not components.attribute(adversarial, "probabilistic"):
                raise ValueError(
                    f"objective.competition: compares probabilities, and {_name(adversarial)} "
                    "takes the score for something else. Take objective=madgan_sim, or objective.competition=null"
                )
            if self.model.k < 2:
                raise ValueError("objective.competition: one expert has no rival; take null, or model.k=2")
        return self

    @model_validator(mode="after")
    def _batch_fits_length(self) -> Run:
        if self.training.nimg is not None and self.training.nimg < self.training.batch:
            raise ValueError(
                f"training.nimg={self.training.nimg} is less than one batch (training.batch={self.training.batch})"
            )
        return self


class EvaluateCommand(Strict):
    """`mixgan evaluate`: which images, against which."""

    run: str | None
    checkpoint: str
    images: str | None
    reference: str | None
    data: components.Data | None = None  # Hydra leaves a group out whose choice is null
    seed: NonNegativeInt | None
    to: str | None
    compare: str | None
    force: bool
    trusted: tuple[str, ...]
    evaluation: Evaluation
    hardware: Hardware

    @model_validator(mode="after")
    def _one_set_of_images(self) -> EvaluateCommand:
        if [self.run is None, self.images is None, self.state is None].count(False) != 1:
            raise ValueError("give either run=DIR (with checkpoint=last or best), checkpoint=FILE or images=PATH")
        if self.images is not None and self.reference is None and self.data is None:
            raise ValueError("images=PATH needs reference=PATH or data=NAME to be compared with")
        return self

    @property
    def state(self) -> str | None:
        """The file of a state, where one is given and not the name of one of a run's."""
        return None if re.fullmatch(r"last|best|\d+", self.checkpoint) else self.checkpoint


class SampleCommand(Strict):
    """`mixgan sample`: how many samples, of what, where to."""

    run: str
    n: Number
    seed: NonNegativeInt
    truncation: PositiveFloat | None
    expert: NonNegativeInt | None
    format: Literal["grid", "png", "npz"]
    to: str | None
    trusted: tuple[str, ...]
    hardware: Hardware


class ExportCommand(Strict):
    """`mixgan export`: which generator, where to, and whether as ONNX too."""

    run: str
    to: str | None
    onnx: bool
    trusted: tuple[str, ...]


class ReportCommand(Strict):
    """`mixgan report`: which folders, how much of each, where to."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    to: str | None
    details: NonNegativeInt
    redraw: bool
    trusted: tuple[str, ...]
    hardware: Hardware


class FetchCommand(Strict):
    """`mixgan fetch`: a data set, the Inception weights, or both."""

    data: components.Data | None = None  # Hydra leaves a group out whose choice is null
    weights: bool

    @model_validator(mode="after")
    def _something(self) -> FetchCommand:
        if self.data is None and not self.weights:
            raise ValueError("give data=NAME, or weights")
        return self


def parse(composed: DictConfig | dict[str, Any], schema: type[Strict]) -> Any:
    """Return the configuration as `schema`, a frozen and typed object.

    What Hydra composed is resolved. A plain dict, from a file, is taken as it is: `${oc.env:HOME}` is so many letters.

    Raises:
        ConfigError: naming each key, its value, and what is allowed.
    """
    config: Any = composed
    if isinstance(composed, DictConfig):
        try:
            config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            if isinstance(error, MissingMandatoryValue):
                raise ConfigError(f"{error.full_key}: missing. Give {error.full_key}=…") from error
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{error.full_key}: {reason}" if error.full_key else reason) from error
        redact.refuse_key(str(config))
    try:
        return schema.model_validate(config)
    except ValidationError as error:
        raise ConfigError("\n".join(_readable(problem, config, schema) for problem in error.errors())) from error


def _readable(problem: Any, config: dict[str, Any], schema: type[Strict]) -> str:
    """One line for one of pydantic's problems: key=value, what is wrong, what would be right."""
    location = [str(step) for step in problem["loc"] if str(step) in _keys(config) or isinstance(step, int)]
    key = ".".join(location)
    if new := renamed(key):
        return f"{key}: renamed to {new}"
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

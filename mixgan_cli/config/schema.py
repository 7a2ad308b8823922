"""The typed schema of configurations: the YAML files in conf/ hold the values, these classes define what is allowed.

Hydra composes a configuration and pydantic checks it, so every wrong key, type, choice or combination is found before
anything is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from mixgan_cli.config import components
from mixgan_cli.config.expert_counts import check_expert_count
from mixgan_cli.config.values import BatchSize, PathText, SampleCount, Seed32
from mixgan_cli.errors import ConfigError


def conf_dir() -> Path:
    """Return the folder of YAML files, which is inside an installed package and at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def _yaml(value: int | None) -> str:
    """Return a value as it is written in YAML."""
    return "null" if value is None else str(value)


def _without_null(terms: Any) -> Any:
    """Drop terms that are null: so a user removes them."""
    return {name: term for name, term in terms.items() if term is not None} if isinstance(terms, dict) else terms


class Strict(BaseModel):
    """A group that rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Groups of a composed configuration that are left out: those that some data sets set for training runs."""


class Latent(Strict):
    """The prior of the latent z: N(0, I), or uniform on [-1, 1]."""

    size: Annotated[int, Field(gt=0, le=2**16)]
    distribution: Literal["normal", "uniform"]


class Model(Strict):
    """A gate, K experts, the backbone they share, and the discriminator's head."""

    name: str
    k: Annotated[int, Field(gt=0, le=2**12)]
    beta: NonNegativeFloat
    pack: Annotated[int, Field(gt=0, le=64)] = 1  # runs older than the key have none
    latent: Latent
    gate: components.Gate
    experts: components.Experts
    head: components.Head
    backbone: components.Backbone

    @model_validator(mode="after")
    def _name_starts_a_folder_name(self) -> Model:
        components.folder_name(self.name)
        return self

    @model_validator(mode="after")
    def _gate_accepts_k(self) -> Model:
        check_expert_count(str(self.gate.get(components.TARGET)), self.k)
        return self


class Optimizers(Strict):
    """One optimiser per network. The gate and the load balance may have their own."""

    generator: components.Optimizer
    discriminator: components.Optimizer
    gate: components.Optimizer | None
    balance: components.Optimizer | None


class Classifier(Strict):
    """The loss of the classifier of experts, if the discriminator's head has one."""

    weight: NonNegativeFloat
    stop_gradient: bool
    scale: Literal["eq2", "literal"]


class Objective(Strict):
    """The losses, the number of steps of each network, and the samples per step."""

    adversarial: components.Adversarial
    penalty: components.Call
    classifier: Classifier
    augment: components.Call | None
    unroll: components.Call | None = None  # runs older than the key have none
    terms: Annotated[dict[str, components.Term], BeforeValidator(_without_null)]
    d_steps: PositiveInt
    fakes: Literal["shared", "per_expert"]
    fake_weight: Literal["one", "k"]
    fake_passes: Literal["together", "per_expert"] = "together"  # runs older than the key have none
    generator_fakes: Annotated[int, Field(gt=0, le=64)] = 1  # runs older than the key have none
    reuse_latents: bool
    optimizer: Optimizers

    @model_validator(mode="after")
    def _reused_latents_are_enough(self) -> Objective:
        if self.reuse_latents and self.generator_fakes > 1:
            raise ValueError(
                f"generator_fakes={self.generator_fakes}: with objective.reuse_latents=true the generator's step has "
                "the latents of the discriminator's. Take 1, or objective.reuse_latents=false"
            )
        return self


class Training(Strict):
    """Length of a run and intervals, in real images shown to the discriminator."""

    nimg: PositiveInt | None
    epochs: PositiveInt | None
    batch: BatchSize
    fakes: BatchSize | None
    shuffle: bool
    flips: bool
    dequantize: bool = False  # runs older than the key have none
    report_nimg: PositiveInt
    sample_nimg: PositiveInt | None
    figures: bool
    evaluate_nimg: PositiveInt | None
    checkpoint_nimg: PositiveInt
    keep: PositiveInt
    max_skipped: NonNegativeInt
    ema_half_life_nimg: NonNegativeInt
    ema_ramp_up: NonNegativeFloat | None
    ema_schedule: components.Schedule | None

    @model_validator(mode="after")
    def _has_one_length(self) -> Training:
        if (self.nimg is None) == (self.epochs is None):
            raise ValueError(
                f"nimg={_yaml(self.nimg)} and training.epochs={_yaml(self.epochs)}: the length of the run is "
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
    """Thresholds of the warnings of collapse. Null turns a warning off."""

    quality: PositiveInt | None
    usage: Annotated[float, Field(gt=0, le=1)] | None
    active: Annotated[float, Field(gt=0, le=1)] | None
    loss: Annotated[float, Field(gt=0)] | None = None  # runs older than the key have none
    spread: Annotated[float, Field(gt=0)] | None = None
    stop: bool


class Hardware(Strict):
    """Devices, processes and precision."""

    device: Literal["auto", "cpu", "cuda"]
    devices: Annotated[int, Field(gt=0, le=2**10)] | Literal["auto"]
    nodes: Annotated[int, Field(gt=0, le=2**10)]
    rendezvous: str | None
    precision: Literal["auto", "float32", "tf32", "bf16"]
    channels_last: bool
    capture: bool | Literal["auto"]
    compile: bool | Literal["auto"]
    data_on: Literal["auto", "device", "host", "disk"]
    threads: Annotated[int, Field(gt=0, le=2**10)] | None
    deterministic: bool

    @model_validator(mode="after")
    def _nodes_meet(self) -> Hardware:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(
                f"nodes={self.nodes}: several machines need a common address. Give hardware.rendezvous=HOST:PORT"
            )
        return self


class Interim(Strict):
    """What is measured during training, more cheaply than at the end."""

    metrics: tuple[str, ...]
    n_fake: SampleCount
    n_real: SampleCount


class Evaluation(Strict):
    """The protocol: what is measured, on how many images, in which features."""

    name: str
    metrics: tuple[str, ...]
    n_fake: SampleCount | None
    n_real: SampleCount | None
    split: Literal["held_out", "train"]
    interim: Interim | None
    ema: bool
    norm_batch: Annotated[BatchSize, Field(ge=2)] | None = None  # runs older than the key have none
    batch: BatchSize
    seed: Seed32
    seeds: PositiveInt
    weights: PathText | None
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
    """Folders of the outputs."""

    outputs: PathText
    run: PathText | None


class SweepOptions(Strict):
    """How a sweep over several runs is carried out."""

    name: PathText | None
    jobs: PositiveInt
    fail_fast: bool
    optimize: str | None
    direction: Literal["minimize", "maximize"]


class SweepCommand(Strict):
    """The keys that a sweep as a whole reads from the configuration."""

    sweep: SweepOptions


class Lineage(Strict):
    """The run or file from which a run goes on."""

    how: Literal["continued", "started"]
    source: PathText
    """The folder or file."""
    nimg: NonNegativeInt | None
    """Images that its weights had been trained on; None if the file does not say it."""
    weights: str | None
    """Checksum of its generator; None if the run equals one of this length from the start."""


class Run(Strict):
    """One training run."""

    name: str | None = None  # runs older than the key have none
    seed: NonNegativeInt
    force: bool
    continue_: Annotated[PathText | None, Field(alias="continue", exclude=True)] = None
    start_from: Annotated[PathText | None, Field(exclude=True)] = None
    trusted: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    lineage: Lineage | None = None  # follows from continue and start_from
    seeded: tuple[str, ...] = ()  # keys that were given as ${seed}
    choices: dict[str, str] = {}  # choices of the groups of model, objective and schedule, for lists and pages
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
    sweep: SweepOptions | None = None  # not used by a single run

    @model_validator(mode="after")
    def _components_fit(self, info: ValidationInfo) -> Run:
        if components.imports_classes(info):
            objective, model = self.objective, self.model
            for name, node in objective.terms.items():
                components.check_run(f"objective.terms.{name}", node, self)
            components.check_run("model.head", model.head, self)
            components.check_run("objective.adversarial", objective.adversarial, self)
            components.check_run("objective.penalty", objective.penalty, self)
            if objective.augment:
                components.check_run("objective.augment", objective.augment, self)
            if objective.unroll:
                components.check_run("objective.unroll", objective.unroll, self)
            components.check_run("model.gate", model.gate, self)
        return self

    @model_validator(mode="after")
    def _name_starts_a_folder_name(self) -> Run:
        if self.name is not None:
            components.folder_name(self.name)
        return self

    @model_validator(mode="after")
    def _goes_on_from_one(self) -> Run:
        if self.continue_ and self.start_from:
            raise ValueError(
                f"continue={self.continue_} and start_from={self.start_from}: a run goes on from one of them. continue "
                "trains a run longer; start_from starts a new run from its weights"
            )
        return self

    @model_validator(mode="after")
    def _packs_are_whole_and_mixed(self) -> Run:
        pack, batch = self.model.pack, self.training.batch
        if batch % pack:
            raise ValueError(
                f"training.batch={batch}: the discriminator sees packs of model.pack={pack} samples. Take a multiple "
                f"of {pack}"
            )
        if pack > 1 and self.objective.fake_passes == "per_expert":
            raise ValueError(
                f"objective.fake_passes=per_expert: a pack of model.pack={pack} samples mixes experts, so there is no "
                "pass of one expert alone. Take together, or model.pack=1"
            )
        if pack > 1 and not self.training.shuffle:
            raise ValueError(
                f"training.shuffle=false: the samples of a pack (model.pack={pack}) must be independent, and in the "
                "data's own order they are not. Take true, or model.pack=1"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits_length(self) -> Run:
        if self.training.nimg is not None and self.training.nimg < self.training.batch:
            raise ValueError(
                f"training.nimg={self.training.nimg} is less than one batch (training.batch={self.training.batch})"
            )
        return self

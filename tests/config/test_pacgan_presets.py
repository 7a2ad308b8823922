"""The presets of PacGAN: published settings for each size of a pack, and any model in front of the same trunk."""

import math

import pytest
import torch

from mixgan_cli.config.schema import conf_dir
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_steps

PRESETS = {  # shape, packs in a batch, steps, numbers of the discriminator by m, samples of the evaluation
    "pacgan_ring": ((2,), 100, 400_000, {1: 405_201, 4: 411_201}, 2_500),
    "pacgan_grid": ((2,), 100, 400_000, {2: 407_201}, 2_500),
    "pacgan_stacked": ((3, 28, 28), 128, 500_000, {1: 1_889, 3: 2_105}, 25_600),
}
SMALL = {
    2: ("model.backbone.generator_widths=[8,8]", "model.backbone.discriminator_widths=[8]"),
    28: ("model.backbone.channels=2",),
}


class Noise:
    """Real samples of a shape."""

    def __init__(self, shape):
        self.shape = shape

    def get_batch(self, nimg, batch):
        return torch.rand(batch, *self.shape) * 2 - 1


@pytest.mark.parametrize(("name", "m"), [(name, m) for name, preset in PRESETS.items() for m in preset[3]])
def test_preset_has_the_published_settings(name, m):
    shape, packs, steps, sizes, samples = PRESETS[name]
    run = composed(f"experiment={name}", f"model.pack={m}")
    training, adam = run.training, run.objective.optimizer
    assert (run.model.name, run.model.k, run.model.pack) == ("gan", 1, m)
    assert training.batch == packs * m and training.nimg == steps * training.batch and training.fakes is None
    published = ((1e-4, (0.8, 0.999)),) * 2 if len(shape) == 1 else ((1e-4, (0.5, 0.99)), (2e-4, (0.5, 0.99)))
    assert tuple((each["lr"], each["betas"]) for each in (adam.generator, adam.discriminator)) == published
    assert (run.evaluation.n_fake, run.evaluation.ema, training.ema_half_life_nimg) == (samples, False, 0)
    assert run.objective.adversarial["_target_"].endswith("NonSaturating") and run.objective.reuse_latents
    with torch.device("meta"):
        counts = parameter_counts(build_networks(run.model, shape))
    assert counts["discriminator"] == sizes[m]


def test_grid_is_the_ring_with_other_data():
    ring, grid = (
        composed(f"experiment=pacgan_{name}").model_dump(exclude={"data", "choices"}) for name in ("ring", "grid")
    )
    assert ring == grid
    assert composed("experiment=pacgan_grid").data["name"] == "grid_pacgan"


@pytest.mark.parametrize(
    ("name", "model"),
    [("pacgan_ring", model) for model in ("gan", "mggan", "madgan", "megan", "mog", "hmog")]
    + [("pacgan_stacked", model) for model in ("mggan", "hmog")],
)
def test_any_model_trains_in_front_of_the_same_trunk(name, model):
    """A model named on the command line keeps its gate and head, and has K first layers."""
    shape = PRESETS[name][0]
    run = composed(f"experiment={name}", f"model={model}", "training.batch=16", *SMALL[shape[-1]])
    assert run.model.name == model and run.model.experts["_target_"].endswith("LinearExperts")
    networks = build_networks(run.model, shape)
    told = take_steps(build_phases(run.objective, networks, Noise(shape), 16, Compute(torch.device("cpu"))))
    assert told and all(map(math.isfinite, told.values()))


def test_product_of_another_key_follows_it():
    assert composed("experiment=pacgan_ring", "model.pack=3").training.batch == 300
    assert composed("experiment=pacgan_ring", "model.pack=3", "training.batch=30").training.batch == 30


@pytest.mark.parametrize("model", sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml")))
def test_every_model_composes_in_its_own_recipe(model):
    assert composed("experiment=pacgan_ring", f"model={model}", "objective=${model}").training.batch == 100

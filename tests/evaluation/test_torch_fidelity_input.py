"""A generator as an input of torch-fidelity's functions, measured with a small registered extractor."""

import re

import numpy as np
import pytest
import torch
import torch_fidelity
from torch.utils.data import Dataset
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

import mixgan_cli
from mixgan_cli.errors import ConfigError
from tests.evaluation.conftest import KnownLogits
from tests.models.test_sampler import sampler

SETTINGS = {"feature_extractor": "known", "cuda": False, "verbose": False, "cache": False, "save_cpu_ram": True}


class Images(Dataset):
    """A data set of given images."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "known", KnownLogits)


REALS = Images((torch.rand(300, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 255).to(torch.uint8))


def measured(fakes, **settings):
    return torch_fidelity.calculate_metrics(
        input1=fakes, input2=REALS, fid=True, kid=True, isc=True, prc=True, kid_subset_size=100, **SETTINGS, **settings
    )


@pytest.mark.parametrize(("prior", "channels"), [("normal", 1), ("uniform", 1), ("normal", 3)])
def test_metrics_equal_those_of_the_generated_images(prior, channels):
    """torch-fidelity draws the noise, here and there with the same state of numpy's generator."""
    generator = sampler("model=hmog", f"model.latent.distribution={prior}", shape=(channels, 8, 8))
    wrapped = mixgan_cli.for_torch_fidelity(generator)
    theirs = measured(wrapped, input1_model_num_samples=300, batch_size=50)
    state = np.random.RandomState(2020)  # their default seed
    noise = state.randn(300, 6) if prior == "normal" else state.rand(300, 6) * 2 - 1
    images = generator(torch.from_numpy(noise).float()).expand(-1, 3, -1, -1)
    ours = measured(Images(images))
    assert theirs == pytest.approx(ours, rel=1e-6) and theirs["frechet_inception_distance"] > 0


def test_wrapper_of_torch_fidelity_agrees_for_normal_prior():
    generator = sampler("model=mggan", "model.latent.distribution=normal", "model.k=4", shape=(3, 8, 8))
    wrapped = torch_fidelity.GenerativeModelModuleWrapper(generator, generator.latent_size, generator.prior, 0)
    values = []
    for model in (wrapped, mixgan_cli.for_torch_fidelity(generator)):
        torch.manual_seed(5)  # the uniform gate's choice
        values.append(measured(model, input1_model_num_samples=300))
    assert values[0] == values[1] and all(np.isfinite(value) for value in values[0].values())


def test_wrapping_draws_nothing():
    generator = sampler("model=mggan", "model.k=4")
    before = torch.get_rng_state()
    mixgan_cli.for_torch_fidelity(generator)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("model", "shape"), [("model=hmog data=ring", (2,)), ("model=mog", (2, 8, 8))])
def test_points_and_odd_channels_are_refused(model, shape):
    with pytest.raises(ConfigError, match=re.escape(f"this generator makes {shape}")):
        mixgan_cli.for_torch_fidelity(sampler(*model.split(), shape=shape))

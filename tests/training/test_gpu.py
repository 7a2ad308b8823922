"""What only a CUDA device can show."""

import pytest
import torch

from mixgan_cli.composition import groups
from tests.conftest import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: training on a GPU is not tested"),
]
ON_GPU = [setting for setting in TINY if not setting.startswith("hardware")]


@pytest.mark.parametrize("precision", ["float32", "bf16", "auto"])
@pytest.mark.parametrize("model", groups()["model"])
def test_it_trains_in_every_precision(mixgan, model, precision):
    settings = [f"model={model}", f"model.k={1 if model == 'gan' else 2}", f"hardware.precision={precision}"]
    outcome = mixgan("train", *ON_GPU, *settings, "hardware=gpu")
    assert outcome.code == 0, outcome.err
    assert 0 <= outcome.json["metrics"]["ms_ssim"] <= 1


def test_samples_of_a_seed_agree_with_the_cpus(mixgan):
    from mixgan_cli import load

    sampler = load(mixgan("train", *ON_GPU, "hardware=gpu").json["run_dir"])
    here = sampler.sample(8, seed=3).float()
    there = sampler.to("cuda").sample(8, seed=3).float()
    assert (here - there).abs().max() <= 1  # one grey level, by rounding

"""What only a CUDA device can show."""

import json
import os
from pathlib import Path

import pytest
import torch

from mixgan_cli.config.compose import groups
from mixgan_cli.models.gates import TreeGate
from mixgan_cli.training import loop
from tests.commands.test_train import weights
from tests.conftest import TINY
from tests.training.test_iteration import ONE_EXPERT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: training on a GPU is not tested"),
]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the first product in the process
ON_GPU = [setting for setting in TINY if not setting.startswith("hardware")]


def of_model(name):
    """The settings that choose a model, with two experts if it can have them."""
    return [f"model={name}", f"model.k={1 if f'model={name}' in ONE_EXPERT else 2}"]


@pytest.mark.parametrize("precision", ["float32", "bf16", "auto"])
@pytest.mark.parametrize("model", groups()["model"])
def test_every_model_trains_in_every_precision(mixgan, model, precision):
    settings = [*of_model(model), f"hardware.precision={precision}"]
    settings += ["training.nimg=400"]  # with five critic steps too, iterations are captured: the first three never are
    outcome = mixgan("train", *ON_GPU, *settings, "hardware=gpu")
    assert outcome.code == 0, outcome.err
    assert "captured as a CUDA graph" in outcome.err
    assert 0 <= outcome.json["metrics"]["ms_ssim"] <= 1


ALIKE = {
    **{model: of_model(model) for model in groups()["model"]},
    "five critic steps": ["model=hmog", "model.k=2", "objective.d_steps=5", "training.nimg=800"],
    "pairwise": ["model=mggan", "model.k=3", "model.head.form=pairwise"],
    "augmented": ["model=gan", "model.k=1", "objective/augment=diffaugment", "objective.augment.cutout=0.5"],
    "spectral norm": ["model=mog", "model.k=2", "objective=hinge", "model.backbone.spectral_norm=true"],
    "compiled": ["model=hmog", "model.k=2", "hardware.compile=true"],
    "packs": ["model=mog", "model.k=2", "objective=non_saturating", "model.pack=2"],
    "unrolled": ["model=gan", "model.k=1", "objective=unrolled"],
    "pairs": ["model=hmog", "model.k=2", "objective=r3gan"],
    "adaptive augmentation": ["model=gan", "model.k=1", "objective=non_saturating", "objective/augment=ada"],
    "minibatch": ["model=gan", "model.k=1", "objective=non_saturating", "model/head=minibatch"],
    "streamed": ["model=mog", "model.k=2", "hardware.data_on=host"],
}


@pytest.mark.parametrize("name", ALIKE)
def test_training_with_and_without_cuda_graph_agrees(mixgan, name):
    """20 iterations in float32: every loss to 1e-3 of it, and the weights of the average to 1e-3."""
    settings = ["objective.d_steps=1", "training.nimg=160", "training.report_nimg=8", "hardware=gpu"]
    settings += ["hardware.precision=float32", "hardware.deterministic=true", *ALIKE[name]]
    for capture in ("true", "false"):
        outcome = mixgan("train", *ON_GPU, *settings, f"hardware.capture={capture}", f"paths.run=capture_{capture}")
        assert outcome.code == 0, outcome.err
        assert ("captured as a CUDA graph" in outcome.err) == (capture == "true")
    captured, eager = (
        [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        for run in ("capture_true", "capture_false")
    )
    losses = [
        [{name: row[name] for name in row if name.startswith("loss/")} for row in rows if "img_per_second" in row]
        for rows in (captured, eager)
    ]
    assert len(losses[0]) == len(losses[1]) == 20
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    for name, value in weights("capture_true").items():
        torch.testing.assert_close(value, weights("capture_false")[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("capture", ["true", "false"])
@pytest.mark.parametrize("model", groups()["model"])
def test_no_iteration_waits_for_the_device(mixgan, monkeypatch, model, capture):
    real, watched = loop.iterate, []

    def watching(state, *others):
        if state.progress.step < 6:  # cuDNN has chosen its kernels, the iteration is captured
            return real(state, *others)
        torch.cuda.set_sync_debug_mode("error")
        try:
            real(state, *others)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return watched.append(state.progress.step)

    monkeypatch.setattr(loop, "iterate", watching)
    settings = [*of_model(model), "objective.d_steps=1", "hardware=gpu"]
    settings += ["schedule=cosine"]
    outcome = mixgan("train", *ON_GPU, *settings, f"hardware.capture={capture}", "training.nimg=96")
    assert outcome.code == 0, outcome.err
    assert len(watched) == 6


def test_training_goes_on_if_it_cannot_be_captured(mixgan, monkeypatch):
    forward = TreeGate.forward

    def reading(self, latent_BZ):
        if self.training:
            latent_BZ.mean().item()  # waits for the device
        return forward(self, latent_BZ)

    monkeypatch.setattr(TreeGate, "forward", reading)
    settings = [*ON_GPU, "hardware=gpu", "model=hmog", "model.k=2", "objective.d_steps=1"]
    outcome = mixgan("train", *settings)
    assert outcome.code == 0, outcome.err
    assert "cannot be captured" in outcome.err
    assert "Training goes on without a CUDA graph" in outcome.err
    assert mixgan("train", *settings, "hardware.capture=true", "paths.run=required").code == 2


def test_samples_of_a_seed_agree_with_the_cpus(mixgan):
    from mixgan_cli import load

    sampler = load(mixgan("train", *ON_GPU, "hardware=gpu").json["run_dir"])
    here = sampler.sample(8, seed=3).float()
    there = sampler.to("cuda").sample(8, seed=3).float()
    assert (here - there).abs().max() <= 1  # one grey level, by rounding

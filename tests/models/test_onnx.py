"""Samples of onnxruntime compared with those of the exported generator."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.export import onnx as exported
from mixgan_cli.models.export.onnx import interface, to_onnx
from mixgan_cli.models.gates import Gate
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler
from tests.conftest import composed

MODELS = ["gan", "mog", "hmog", "madgan", "madgan_sim", "mggan", "megan", "megan_hidden", "dmgan"]
IMAGES, POINTS = ("model.backbone.channels=4",), ("data=ring",)
R3GAN = (*IMAGES, "model/backbone=r3gan", "model/experts=basis")


def sampler(model, *overrides):
    """A generator whose batch norms have seen samples."""
    shape = (2,) if "data=ring" in overrides else (3, 8, 8)
    k = [] if model == "gan" else ["model.k=4"]
    generator = build_networks(composed(f"model={model}", *overrides, *k).model, shape).generator
    for _ in range(3):
        generator.train()(generator.latents(16))
    return Sampler(generator.eval().requires_grad_(False))


def session_of(generator):
    return onnxruntime.InferenceSession(to_onnx(generator, {"mixgan": "x"}), providers=["CPUExecutionProvider"])


def case(model, data):
    """A model and its data; in `make test` a model with a soft gate and one with a hard gate."""
    every_day = model in ("hmog", "mggan") if data == IMAGES else model == "hmog" and data == POINTS
    return pytest.param(model, data, marks=[] if every_day else [pytest.mark.integ])


@pytest.mark.parametrize(
    ("model", "data"),
    [case(model, data) for data in (IMAGES, POINTS, R3GAN) for model in MODELS if data != R3GAN or model == "hmog"],
)
def test_onnxruntime_gives_the_same_samples(model, data):
    generator = sampler(model, *data)
    session, told = session_of(generator), interface(generator)
    names = [argument.name for argument in session.get_inputs()]
    outputs = [argument.name for argument in session.get_outputs()]
    assert names + outputs == list(told)
    assert names == ["latent", "expert"][: 1 + (generator.hard and generator.k > 1)]
    for n in (1, 2, 37):
        fakes = generator.draw(n, seed=n)
        given = {"latent": generator.latents(n, seed=n), "expert": fakes.weights_BK.argmax(dim=1)}
        samples, weights = session.run(None, {name: given[name].numpy() for name in names})
        assert samples.dtype == fakes.samples.numpy().dtype and samples.shape == fakes.samples.shape
        np.testing.assert_allclose(
            samples.astype(float), fakes.samples.double(), atol=1e-4 if data is POINTS else 1, rtol=0
        )
        np.testing.assert_allclose(weights.sum(axis=1), np.ones(n), rtol=1e-5)
        if not generator.hard:
            np.testing.assert_allclose(weights, fakes.weights_BK, atol=1e-5)


def test_model_metadata_describes_the_interface():
    generator = sampler("mggan", "model.latent.distribution=uniform", *IMAGES)
    model = onnx.load_from_string(to_onnx(generator, {"model": json.dumps({"k": 4})}))
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["model"]) == {"k": 4}
    assert "[N, 100]" in told["latent"] and "uniform" in told["latent"]
    assert "0 to 3" in told["expert"] and "[N, 3, 8, 8]" in told["images"]
    (batch,) = {a.type.tensor_type.shape.dim[0].dim_param for a in (*model.graph.input, *model.graph.output)}
    assert batch == "N"


def test_model_with_other_samples_is_rejected(monkeypatch):
    right = Sampler.mix
    monkeypatch.setattr(Sampler, "mix", lambda self, latent, weights: right(self, latent * 1.5, weights))
    with pytest.raises(RunError, match=r"samples of onnxruntime differ by .*onnx=false"):
        to_onnx(sampler("hmog", *POINTS), {})


class Drawing(Gate):
    """A hard gate that draws random numbers and does not override `probabilities`."""

    hard, k = True, 4

    def forward(self, latent_BZ):
        return torch.eye(4)[torch.randint(4, (len(latent_BZ),))]


def test_random_gate_without_probabilities_is_rejected():
    generator = sampler("madgan", *POINTS)
    generator.generator.gate = Drawing()
    with pytest.raises(RunError, match="onnx=true"):
        to_onnx(generator, {})


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_name_the_extra(monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package}.*pip install 'mixgan\[export\]'"):
        to_onnx(sampler("gan", *POINTS), {})


def test_too_large_weights_are_rejected(monkeypatch):
    monkeypatch.setattr(exported, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match="at most 2"):
        to_onnx(sampler("gan", *POINTS), {})

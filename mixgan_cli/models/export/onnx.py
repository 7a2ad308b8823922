"""Export a trained generator as an ONNX model, for programs without torch and mixgan."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError, RunError, error_summary
from mixgan_cli.models.experts import one_hot_like
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.random import fork_seed

OPSET = 18
MAX_BYTES = 2**31 - 2**20
"""Largest weights in one file [bytes]: protobuf allows 2 GiB, and the graph needs less than the difference."""
MAX_LEVELS, MAX_RELATIVE = 1, 1e-4
"""Largest accepted deviation of onnxruntime: gray levels of 255 in images, relative to the largest one for points."""


def interface(sampler: Sampler) -> dict[str, str]:
    """Return the names of the ONNX model's inputs and outputs, in order, each with its type, shape and meaning."""
    prior = "N(0, 1)" if sampler.prior == "normal" else "the uniform distribution on [-1, 1]"
    shape = [str(size) for size in sampler.sample(1).shape[1:]]
    name, kind = ("images", "uint8") if len(shape) == 3 else ("points", "float32")
    weights = f"float32 [N, {sampler.k}]: "
    if not _takes_expert(sampler):
        expert = {}
        weights += "the gate's weight of each expert in the sample"
    else:
        expert = {"expert": f"int64 [N]: the expert, 0 to {sampler.k - 1}, that generates the sample"}
        weights += "the probability of each expert given the latent; to sample the mixture, draw `expert` from it"
    return {
        "latent": f"float32 [N, {sampler.latent_size}]: coordinates from {prior}",
        **expert,
        name: f"{kind} [N, {', '.join(shape)}]: the samples",
        "weights": weights,
    }


def to_onnx(sampler: Sampler, metadata: Mapping[str, str]) -> bytes:
    """Export the generator as an ONNX model, and check that onnxruntime gives the same samples on random latents.

    Inputs and outputs are those of `interface`, for any N. An ONNX model draws no random numbers, so with a hard gate
    the expert of each sample is an input.

    Args:
        sampler: the generator, on the CPU.
        metadata: entries to add to the model's metadata, next to its interface.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is missing, or the weights are too large for one file.
        RunError: torch cannot export the generator, or onnxruntime gives other samples. All components of mixgan can be
            exported; a gate of your own that draws random numbers needs `probabilities`.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ConfigError(
            f"onnx=true: {error}; onnx, onnxscript and onnxruntime are an extra. Install them with "
            "pip install 'mixgan[export]', or take onnx=false"
        ) from error
    size = sum(tensor.nbytes for tensor in sampler.state_dict().values())
    if size > MAX_BYTES:
        raise ConfigError(
            f"onnx=true: the weights take {size / 2**30:.1f} GiB, an ONNX file at most 2. Take onnx=false"
        )
    graph, described = _Graph(sampler).eval(), interface(sampler)
    inputs = graph.examples(3)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "# The axis name: N will not be used")  # both inputs have N rows
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=tuple({0: "N"} for _ in inputs),
                input_names=list(inputs),
                output_names=[name for name in described if name not in inputs],
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise RunError(
            f"onnx=true: torch cannot export this generator ({error_summary(error)}). Take onnx=false"
        ) from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {**metadata, **described})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for n in (1, 10):
        _check_outputs(session, graph, n)
    return content


def _takes_expert(sampler: Sampler) -> bool:
    """Return true if the expert of each sample is an input: the gate is hard and there are several experts."""
    return sampler.hard and sampler.k > 1


class _Graph(nn.Module):
    """The computation of the ONNX model."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler

    def examples(self, n: int) -> dict[str, Tensor]:
        """Return inputs for n samples by name: random latents, and the experts in turn."""
        latent_NZ = self.sampler.latents(n)
        if not _takes_expert(self.sampler):
            return {"latent": latent_NZ}
        return {"latent": latent_NZ, "expert": torch.arange(n) % self.sampler.k}

    def forward(self, latent_BZ: Tensor, expert_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return samples and weights [B, K]."""
        weights_BK = self.sampler.probabilities(latent_BZ)
        used_BK = weights_BK if expert_B is None else one_hot_like(expert_B, self.sampler.k, latent_BZ)
        return self.sampler.mix(latent_BZ, used_BK), weights_BK


def _check_outputs(session: Any, graph: _Graph, n: int) -> None:
    """Raise RunError unless onnxruntime and the generator give the same samples and weights for n latents."""
    inputs = graph.examples(n)
    sampler, latent_NZ = graph.sampler, inputs["latent"]
    with fork_seed("onnx", n), torch.no_grad():
        experts = inputs["expert"].tolist() if _takes_expert(sampler) else [None] * n
        expected = torch.cat([sampler(latent_NZ[i : i + 1], expert) for i, expert in enumerate(experts)]).numpy()
        weights = sampler.probabilities(latent_NZ).numpy()
    got, got_weights = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    allowed = MAX_LEVELS if expected.dtype == np.uint8 else MAX_RELATIVE * np.abs(expected).max()
    deviation = np.abs(got.astype(np.float64) - expected).max()
    if not (deviation <= allowed and np.abs(got_weights - weights).max() <= MAX_RELATIVE):
        raise RunError(
            f"onnx=true: for the same {n} latents, samples of onnxruntime differ by {deviation:.3g} (at most "
            f"{allowed:.3g} is allowed) and its weights by {np.abs(got_weights - weights).max():.3g}. "
            "Take onnx=false, and report this if the model is mixgan's own"
        )

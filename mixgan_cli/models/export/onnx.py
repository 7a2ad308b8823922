"""A trained generator as an ONNX model, for programs that have neither torch nor mixgan."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.experts import one_hot_like
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.io import error_summary
from mixgan_cli.runtime.random import fork_seed

OPSET = 18
LARGEST = 2**31 - 2**20
"""Bytes of a model in one file, which protobuf bounds; the graph itself takes less than the difference."""
LEVELS, RELATIVE = 1, 1e-4
"""How far the two may be apart: levels of 255 in an image, share of the largest coordinate in points."""


def interface(sampler: Sampler) -> dict[str, str]:
    """Return inputs and outputs of the ONNX model, in order, and what each is."""
    prior = "N(0, 1)" if sampler.prior == "normal" else "the uniform distribution on [-1, 1]"
    shape = [str(size) for size in sampler.sample(1).shape[1:]]
    name, kind = ("images", "uint8") if len(shape) == 3 else ("points", "float32")
    weights = f"float32 [N, {sampler.k}]: "
    if not _chosen(sampler):
        expert = {}
        weights += "how much of each expert the gate has put into the sample"
    else:
        expert = {"expert": f"int64 [N]: which of the experts 0 to {sampler.k - 1} makes the sample"}
        weights += "how likely the gate chooses each expert for the latent; for the mixture, draw `expert` so"
    return {
        "latent": f"float32 [N, {sampler.latent_size}]: coordinates from {prior}",
        **expert,
        name: f"{kind} [N, {', '.join(shape)}]: the samples",
        "weights": weights,
    }


def to_onnx(sampler: Sampler, about: Mapping[str, str]) -> bytes:
    """Return the generator as an ONNX model, after onnxruntime has made the same of it on random latents.

    Its inputs and outputs are those of `interface`, for any N. An ONNX model draws nothing, so where the gate is hard
    the expert of each sample is an input.

    Args:
        sampler: the generator, on the CPU.
        about: what is written into the model's metadata beside its interface, by name.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is missing, or the weights are too large for one file.
        RunError: it cannot be exported, or onnxruntime makes something else of it. mixgan's own parts can; a gate of a
            user's own that draws should say its `probabilities`.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ConfigError(
            f"onnx=true: {error}; onnx, onnxscript and onnxruntime are an extra: pip install 'mixgan[export]', or take "
            "onnx=false"
        ) from error
    size = sum(tensor.nbytes for tensor in sampler.state_dict().values())
    if size > LARGEST:
        raise ConfigError(
            f"onnx=true: the weights take {size / 2**30:.1f} GiB, an ONNX file at most 2. Take onnx=false"
        )
    graph, told = _Graph(sampler).eval(), interface(sampler)
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
                output_names=[name for name in told if name not in inputs],
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise RunError(
            f"onnx=true: torch cannot export this generator ({error_summary(error)}). Take onnx=false"
        ) from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {**about, **told})
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    for n in (1, 10):
        _compare(session, graph, n)
    return written


def _chosen(sampler: Sampler) -> bool:
    """Whether there is a choice of one expert for each sample."""
    return sampler.hard and sampler.k > 1


class _Graph(nn.Module):
    """What the ONNX model computes."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.sampler = sampler

    def examples(self, n: int) -> dict[str, Tensor]:
        """Return inputs for n samples, by name: random latents, and one expert after the other."""
        latent_NZ = self.sampler.latents(n)
        return {"latent": latent_NZ, **({"expert": torch.arange(n) % self.sampler.k} if _chosen(self.sampler) else {})}

    def forward(self, latent_BZ: Tensor, expert_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return samples and weights [B, K]."""
        weights_BK = self.sampler.probabilities(latent_BZ)
        used_BK = weights_BK if expert_B is None else one_hot_like(expert_B, self.sampler.k, latent_BZ)
        return self.sampler.mix(latent_BZ, used_BK), weights_BK


def _compare(session: Any, graph: _Graph, n: int) -> None:
    """Refuse what does not make of n latents what the generator itself makes of each, by its own gate and experts."""
    inputs = graph.examples(n)
    sampler, latent_NZ = graph.sampler, inputs["latent"]
    with fork_seed("onnx", n), torch.no_grad():
        experts = inputs["expert"].tolist() if _chosen(sampler) else [None] * n
        made = torch.cat([sampler(latent_NZ[i : i + 1], expert) for i, expert in enumerate(experts)]).numpy()
        weights = sampler.probabilities(latent_NZ).numpy()
    got, weighed = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    allowed = LEVELS if made.dtype == np.uint8 else RELATIVE * np.abs(made).max()
    apart = np.abs(got.astype(np.float64) - made).max()
    if not (apart <= allowed and np.abs(weighed - weights).max() <= RELATIVE):
        raise RunError(
            f"onnx=true: of the same {n} latents onnxruntime makes samples that differ by {apart:.3g} (at most "
            f"{allowed:.3g} is allowed), and weights that differ by {np.abs(weighed - weights).max():.3g}. "
            "Take onnx=false, and report this where the model is mixgan's own"
        )

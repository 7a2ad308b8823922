"""The generator, the discriminator, and `build_networks`, which builds both from the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mixgan_cli.config.components import SCHEDULE, build
from mixgan_cli.config.schema import Model
from mixgan_cli.errors import ConfigError, UserError
from mixgan_cli.models.backbones.base import Backbone, Shape
from mixgan_cli.models.experts import Experts, SharedLayers, one_hot_like
from mixgan_cli.models.gates import Gate, GateWeights
from mixgan_cli.models.heads import DiscriminatorOutput, Head
from mixgan_cli.runtime.device import total_memory
from mixgan_cli.runtime.random import normal, uniform


class GeneratorOutput(NamedTuple):
    """Samples [B, …] in [-1, 1] (points: unbounded), and the gate's weights [B, K]."""

    samples: Tensor
    weights_BK: Tensor


class Generator(nn.Module):
    r"""x = trunk(\sum_k a_k(z) G_k(stem(z))): mix the experts' outputs, or select one, then run the trunk once.

    Most kinds of experts are one first layer each: the stem is empty and the trunk is long. If experts are whole
    networks, the trunk is empty; if they are the last layers, the stem holds the layers that they share.
    """

    def __init__(
        self,
        gate: Gate,
        experts: Experts,
        shared: SharedLayers,
        latent_size: int,
        prior: Literal["normal", "uniform"],
    ) -> None:
        super().__init__()
        self.stem, self.gate, self.experts, self.trunk = shared.stem, gate, experts, shared.trunk
        self.latent_size, self.prior = latent_size, prior

    @property
    def k(self) -> int:
        """The number of experts."""
        return self.gate.k

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def latents(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """Draw latents [n, Z] from the prior with torch's global random state.

        Args:
            n: how many. In training mode, a multiple of K if the gate splits the batch among the experts. If the gate
                gives each latent to all experts, n / K latents are drawn and repeated K times.
            device: where to draw; None: on the generator's device.
        """
        device = self.device if device is None else device
        repeats = self.gate.experts_per_latent if self.training else 1
        parts = self.k if self.training and self.gate.splits_batch and repeats == 1 else 1
        draw = uniform if self.prior == "uniform" else normal
        drawn = draw(n // repeats, self.latent_size, device=device, parts=parts)
        return (drawn * 2 - 1 if self.prior == "uniform" else drawn).repeat(repeats, 1)

    def forward(self, latent_BZ: Tensor, expert: int | None = None) -> GeneratorOutput:
        """Generate one sample per latent, with the mixture or with a single expert.

        Raises:
            ConfigError: there is no expert with this number.
        """
        if expert is not None:
            return self._forward_one(expert, self.stem(latent_BZ))
        parts = self.k if self.training and self.gate.separate else 1
        inputs = run_in_parts(self.stem, latent_BZ, parts)
        mixed, weights = self.gate.mix(latent_BZ, inputs, self.experts)
        return GeneratorOutput(run_in_parts(self.trunk, mixed, parts), weights.weights_BK)

    def weights(self, latent_BZ: Tensor) -> GateWeights:
        """Return the gate's weights [B, K]. Run only the layers that the gate reads."""
        return self.gate.weights(latent_BZ, self.stem(latent_BZ), self.experts)

    def _forward_one(self, expert: int, inputs: Tensor) -> GeneratorOutput:
        if not 0 <= expert < self.k:
            raise ConfigError(f"expert={expert}: the experts are numbered 0 to {self.k - 1}")
        weights_BK = one_hot_like(torch.full((len(inputs),), expert), self.k, inputs)
        return GeneratorOutput(self.trunk(self.experts.forward_one(expert, inputs)), weights_BK)


class Discriminator(nn.Module):
    """A body, which maps samples [N, …] to features [N, F], and a head on these features.

    Args:
        body: the layers before the head.
        head: the last layer.
        pack: m, the number of samples that it sees at once. If m > 1, whatever is called a sample in this class is a
            pack of m samples, as `pack` makes them.
    """

    def __init__(self, body: nn.Module, head: Head, pack: int = 1) -> None:
        super().__init__()
        self.body = body
        self.head: Head = head
        self.pack = pack

    def forward(self, samples: Tensor, detach_features: bool = False, parts: int = 1) -> DiscriminatorOutput:
        """Score samples [N, …].

        Args:
            samples: the samples.
            detach_features: if true, the classifier of experts does not train the body.
            parts: number of equal, consecutive parts that run through the body one after the other.
        """
        output: DiscriminatorOutput = self.head(run_in_parts(self.body, samples, parts), detach_features)
        return output

    @property
    def per_sample(self) -> bool:
        """True if the output of a sample is known not to depend on other samples, nor on earlier or random numbers.

        Only layers of torch and of this package are known. Batch norm and spectral norm have buffers.
        """
        known = ("torch.nn.modules.", "mixgan_cli.models.")
        own = not self.head.across_samples and not any(True for _ in self.buffers())
        return own and all(
            type(module).__module__.startswith(known) and not isinstance(module, (_DropoutNd, _BatchNorm))
            for module in self.modules()
        )

    def score(self, samples: Tensor) -> Tensor:
        """Return the scores [N] of samples [N, …] by code that has a second derivative: not by a compiled body."""
        with torch.compiler.set_stance("force_eager"):
            scores_N: Tensor = self(samples).scores_N
        return scores_N


def packed_shape(shape: Shape, m: int) -> Shape:
    """Return the shape of a pack of m samples: (m C, H, W) for images (C, H, W), (m D,) for points (D,).

    A discriminator that sees packs gives each one score (PacGAN: Lin et al. 2018, section 2). The samples are
    concatenated along their first axis, so only its first layer becomes wider.
    """
    return (m * shape[0], *shape[1:])


def pack(samples: Tensor, m: int) -> Tensor:
    """Return packs [N / m, m C, …] of m consecutive samples [N, C, …]; with m = 1 the samples themselves.

    Raises:
        ValueError: N is not a multiple of m.
    """
    if len(samples) % m:
        raise ValueError(f"{len(samples)} samples make no whole packs of {m}")
    return samples if m == 1 else samples.unflatten(0, (-1, m)).flatten(1, 2)


def unpack(packs: Tensor, m: int) -> Tensor:
    """Return the samples [m P, C, …] of packs [P, m C, …], in the order in which `pack` got them."""
    return packs if m == 1 else packs.unflatten(1, (m, -1)).flatten(0, 1)


class SideBySide(nn.Module):
    """Several networks with the same inputs."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs [N, F] of all networks for inputs [N, …], side by side."""
        return torch.cat([network(inputs) for network in self.each], dim=1)


def run_in_parts(network: nn.Module, inputs: Tensor, parts: int) -> Tensor:
    """Return network(inputs), [N, …], computed in equal, consecutive parts: batch norm normalises each alone."""
    return network(inputs) if parts == 1 else torch.cat([network(part) for part in inputs.chunk(parts)])


class Networks(NamedTuple):
    """The generator and the discriminator of a model."""

    generator: Generator
    discriminator: Discriminator


def build_networks(model: Model, shape: tuple[int, ...]) -> Networks:
    """Build and initialise generator and discriminator with torch's global random state.

    Args:
        model: the model group of the configuration.
        shape: the shape of one sample: (C, H, W) for images, (D,) for points.

    Raises:
        ConfigError: a component does not support this K or this shape.
    """
    sizes = {"k": model.k, "latent_size": model.latent.size}
    backbone: Backbone = build(model.backbone, shape=shape)
    experts: Experts = build(
        model.experts, **sizes, hidden_size=backbone.hidden_size, initialise=backbone.initialise, backbone=backbone
    )
    gate: Gate = build(model.gate, **sizes, feature_size=experts.feature_size)
    if model.gate.get(SCHEDULE) and type(gate).anneal is Gate.anneal:
        gate.anneal(1.0)  # raises: this gate has no value to schedule
    shared = experts.shared_layers(backbone, model.latent.size)
    critic = backbone if model.pack == 1 else build(model.backbone, shape=packed_shape(shape, model.pack))
    generator = Generator(gate, experts, shared, model.latent.size, model.latent.distribution)
    head: Head = build(
        model.head,
        k=model.k,
        features=critic.features,
        initialise_head=backbone.initialise_head,
        spectral_norm=backbone.spectral_norm,
        head_bias=getattr(backbone, "head_bias", True),  # backbones of other packages may lack it
    )
    bodies = [critic.body() for _ in range(head.bodies)]
    body = bodies[0] if len(bodies) == 1 else SideBySide(bodies)
    return Networks(generator, Discriminator(body, head, model.pack))


def check_memory(model: Model, shape: tuple[int, ...]) -> None:
    """Reject networks that do not fit in this machine's memory, without allocating them.

    Args:
        model: the model group of the configuration.
        shape: the shape of one sample.

    Raises:
        ConfigError: the networks are too large, or a component does not support this K or this shape.
    """
    try:
        with torch.device("meta"):  # sizes without storage
            networks = build_networks(model, shape)
    except UserError:
        raise
    except Exception:  # a component from another package may not support the meta device
        return
    needed, available = 8 * sum(map(_count, networks)), total_memory()  # float32 weights and their moving average
    if needed > available:
        raise ConfigError(
            f"model: its weights take {needed / 2**30:,.0f} GiB, and this machine has {available / 2**30:.0f}. "
            "Take a smaller model.k, model.latent.size or model.backbone"
        )


def parameter_counts(networks: Networks) -> dict[str, int]:
    """Count the parameters of gate, experts, shared layers ("trunk", with the stem), generator and discriminator."""
    generator, discriminator = networks
    return {
        "gate": _count(generator.gate),
        "experts": _count(generator.experts),
        "trunk": _count(generator.stem) + _count(generator.trunk),
        "generator": _count(generator),
        "discriminator": _count(discriminator),
    }


def non_finite(states: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Return the names of the tensors [...] that hold a NaN or an infinity, such as generator.gate.splits.weight.

    Args:
        states: state dicts, tensors of any shape [...], by the name of their network.
    """
    named = {f"{network}.{name}": tensor for network, state in states.items() for name, tensor in state.items()}
    finite = torch.stack([tensor.isfinite().all() for tensor in named.values()]).tolist()  # one synchronisation
    return [name for name, of in zip(named, finite, strict=True) if not of]


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())

"""A trained generator as torch-fidelity's functions take it: noise in, RGB images out."""

from __future__ import annotations

from torch import Tensor
from torch_fidelity import GenerativeModelBase

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.sampler import Sampler


class TorchFidelityGenerator(GenerativeModelBase):
    """A trained generator as an input of torch-fidelity, with latents from the prior it was trained with.

    torch-fidelity has no noise on [-1, 1], so that of a uniform prior is mapped from [0, 1]. Its extractors need three
    channels, so grey is repeated. A hard gate chooses experts with torch's random state (torch.manual_seed).

    Raises:
        ConfigError: the generator makes points, or images of neither one channel nor three.
    """

    num_classes = 0

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        shape = tuple(sampler.sample(1).shape[1:])
        if shape[:-2] not in ((1,), (3,)):
            raise ConfigError(f"torch-fidelity measures images of 1 or 3 channels; this generator makes {shape}")
        self.sampler = sampler.eval()

    @property
    def z_size(self) -> int:
        """Z."""
        return self.sampler.latent_size

    @property
    def z_type(self) -> str:
        """The name of the noise that it asks torch-fidelity for."""
        return "uniform_0_1" if self.sampler.prior == "uniform" else "normal"

    def forward(self, noise_BZ: Tensor) -> Tensor:
        """Return images uint8 [B, 3, H, W]."""
        latent_BZ = noise_BZ * 2 - 1 if self.sampler.prior == "uniform" else noise_BZ
        return self.sampler(latent_BZ).expand(-1, 3, -1, -1)

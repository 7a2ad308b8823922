import pytest
import torch

import mixgan_cli
from mixgan_cli.errors import RunError


@pytest.fixture
def run(finished_run):
    return finished_run()


def test_load_returns_a_sampler(run, tmp_path):
    generator = mixgan_cli.load(run)
    samples = generator.sample(5, seed=1)
    assert samples.shape == (5, 1, 8, 8) and samples.dtype == torch.uint8
    assert torch.equal(samples, mixgan_cli.load(run / "checkpoints" / "generator.safetensors").sample(5, seed=1))
    assert not torch.equal(samples, generator.sample(5, seed=1, expert=3))
    with pytest.raises(RunError, match="there is no generator"):
        mixgan_cli.load(tmp_path / "nowhere")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(RunError, match="damaged"):
        mixgan_cli.load(tmp_path / "junk.safetensors")


def test_sample_is_independent_of_the_batch(finished_run):
    generator = mixgan_cli.load(finished_run("model.backbone.generator_norm=batch"))
    latent_BZ = torch.randn(8, 100)
    torch.testing.assert_close(generator(latent_BZ)[:1], generator(latent_BZ[:1]))


def test_generator_works_with_torch_fidelity(run):
    from torch_fidelity import GenerativeModelModuleWrapper

    generator = mixgan_cli.load(run)
    wrapped = GenerativeModelModuleWrapper(generator, z_size=100, z_type="normal", num_classes=0)
    assert wrapped(torch.randn(3, 100)).dtype == torch.uint8

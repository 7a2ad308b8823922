"""Packs of samples: their layout, what of the discriminator they widen, and what one of them changes."""

from functools import cache

import pytest
import torch

from mixgan_cli.config.compose import groups
from mixgan_cli.models.networks import build_networks, pack, packed_shape, parameter_counts, unpack
from tests.conftest import composed

once_composed = cache(composed)  # composing is what takes time
POINTS = ("mlp", "pacgan_points")
SHAPES = {name: (2,) if name in POINTS else (3, 32, 32) for name in groups()["model/backbone"]}


def networks(backbone, m):
    model = once_composed("model=hmog", f"model/backbone={backbone}").model
    narrow = {"channels": 16} if "channels" in model.backbone else {}
    changed = model.model_copy(update={"pack": m, "backbone": model.backbone | narrow})
    return build_networks(changed, SHAPES[backbone])


def test_pack_of_one_is_the_samples_themselves():
    for samples in (torch.randn(6, 2), torch.randn(6, 3, 4, 4)):
        assert pack(samples, 1) is samples and unpack(samples, 1) is samples
        assert packed_shape(tuple(samples.shape[1:]), 1) == samples.shape[1:]


@pytest.mark.parametrize("shape", [(2,), (3, 4, 5)])
@pytest.mark.parametrize("m", [2, 3])
def test_pack_concatenates_consecutive_samples(shape, m):
    samples = torch.randn(6, *shape)
    packs = pack(samples, m)
    assert packs.shape == (6 // m, *packed_shape(shape, m))
    for number, each in enumerate(packs):
        assert torch.equal(each, torch.cat(list(samples[m * number : m * number + m])))
    assert torch.equal(unpack(packs, m), samples)


def test_samples_that_make_no_whole_packs_are_refused():
    with pytest.raises(ValueError, match="7 samples make no whole packs of 2"):
        pack(torch.randn(7, 2), 2)


@pytest.mark.parametrize("backbone", SHAPES)
def test_packs_widen_only_the_first_layer(backbone):
    """The generator keeps its size, and each further sample in a pack costs the same number of weights."""
    with torch.device("meta"):
        of_m = [networks(backbone, m) for m in (1, 2, 3)]
    counts = [parameter_counts(each) for each in of_m]
    assert len({count["generator"] for count in counts}) == 1
    sizes = [count["discriminator"] for count in counts]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0
    one, two = (each.discriminator for each in of_m[:2])
    wider = [name for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True) if a.shape != b.shape]
    assert len({".".join(name.split(".")[:2]) for name in wider}) == 1, wider


def test_score_is_permuted_with_its_packs_only():
    """Another order of packs is another order of scores; another order within a pack is another score."""
    torch.manual_seed(0)
    critic = networks("dcgan", 2).discriminator.eval()
    samples = torch.rand(8, 3, 32, 32) * 2 - 1
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        scores = critic(pack(samples, 2)).scores_N
        assert scores.shape == (4,)
        torch.testing.assert_close(critic(pack(samples, 2)[order]).scores_N, scores[order])
        swapped = critic(pack(samples.unflatten(0, (4, 2)).flip(1).flatten(0, 1), 2)).scores_N
    assert (swapped - scores).abs().min() > 1e-6

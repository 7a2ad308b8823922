"""Plots of a mixture: labels and contents."""

import pytest
import torch

from mixgan_cli.data.packed import Packed
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots.mixture import CAPTIONS, draw_nearest, draw_sheet, draw_tree, mixture_plots
from tests.conftest import composed


def drawn(*overrides, shape=(1, 8, 8)):
    run = composed("data.size=8", "model.backbone.channels=4", *overrides)
    return dict(mixture_plots(Sampler(build_networks(run.model, shape).generator), None, 0))


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(
    ("model", "k", "mixed", "unit"),
    [("mog", 12, True, "expert"), ("hmog", 4, True, "leaf"), ("mggan", 12, False, "expert")],
)
def test_rows_are_labelled_with_their_experts(model, k, mixed, unit):
    found = drawn(f"model={model}", f"model.k={k}")
    within, across = texts(found["within"]), texts(found["across"])
    experts = [f"{unit} {number}" for number in range(min(k, 8))] + ["mixture"] * mixed
    steps = ["0", "0.125", "0.25", "0.375", "0.5", "0.625", "0.75", "0.875", "1"]
    assert within == [*experts, *steps, "share of the way from the first latent to the second"]
    pairs = [f"{unit} {number} to {number + 1}" for number in range(min(k - 1, 8))]
    assert across == [*pairs, *steps, f"weight of the second {unit}"]
    if mixed:
        ranks = [f"rank {number}" for number in range(1, 6)]
        assert texts(found["top"])[:-1] == [*ranks, *(f"{unit} {number}" for number in range(k))]


@pytest.mark.parametrize("model", ["hmog", "mog", "mggan"])
def test_figures_have_titles_and_axes_have_labels(model):
    for name, figure in drawn(f"model={model}", "model.k=2").items():
        assert figure.get_suptitle() == CAPTIONS[name][0]
        for axes in figure.axes:
            assert not axes.axison or axes.get_xlabel() or axes.get_ylabel()


def test_a_single_expert_has_only_its_interpolation():
    assert drawn("model=gan").keys() == drawn("model=mog", "model.k=1").keys() == {"within"}


def test_shares_of_a_level_of_the_tree_sum_to_one():
    found = texts(drawn("model=hmog", "model.k=4")["tree"])
    assert [text.partition("\n")[0] for text in found[3:]] == [f"leaf {number}" for number in range(4)]
    shares = [int(text.partition("\n")[2].rstrip("%") or text.rstrip("%")) for text in found]
    assert len(shares) == 7 and shares[0] == 100
    assert abs(sum(shares[1:3]) - 100) <= 1 and abs(sum(shares[3:]) - 100) <= 2


def test_tree_shows_what_a_node_changes():
    """Leaf 0 is dark and leaf 1 bright, half of the samples each: they differ from their mean by -50 and 50."""
    images = torch.tensor([50, 150], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    figure = draw_tree(images, torch.eye(2))
    averages, changes = [], []
    for image in figure.axes[0].images:
        array = image.get_array()
        (averages if array.ndim == 3 else changes).append(array.mean())
    assert averages == [100, 50, 150] and changes == [-50, 50]
    assert figure.axes[1].get_xlabel() == "difference from the parent [grey levels of 255]"
    assert figure.axes[0].images[-1].get_clim() == (-50, 50)


@pytest.mark.parametrize("channels", [3, 4])
def test_images_may_have_three_or_four_channels(channels):
    assert "within" in drawn("model=mog", "model.k=2", shape=(channels, 8, 8))


def test_a_sheet_places_images_by_row_and_column():
    images = torch.arange(6, dtype=torch.uint8).view(2, 3, 1, 1, 1).expand(2, 3, 1, 4, 4) * 40
    sheet = draw_sheet(images, ["a", "b"], ["0", "1", "2"]).axes[0].images[0].get_array()
    assert [[sheet[5 * row, 5 * column, 0] for column in range(3)] for row in range(2)] == [
        [0, 40, 80],
        [120, 160, 200],
    ]
    assert (sheet[4, :, 3] == 0).all()  # transparent, for light and dark pages


@pytest.mark.parametrize("n", [2, 5])
def test_samples_are_above_their_nearest_training_images(n):
    run = composed("data.size=8", "model.backbone.channels=4", "model=gan")
    sampler = Sampler(build_networks(run.model, (1, 8, 8)).generator)
    train = sampler.sample(8, 0)[:n]  # a generator that copies
    figure = draw_nearest(sampler, Packed(train, None, ""), 0)
    found = texts(figure)
    neighbours = ["nearest", "2nd nearest", "3rd nearest"][:n]
    assert found[: 1 + len(neighbours)] == ["sample", *neighbours] and found[1 + len(neighbours)] == "0"
    assert found[-1] == f"RMS difference from the nearest of {n} training images [grey levels of 255]"
    assert figure.get_suptitle() == CAPTIONS["nearest"][0]

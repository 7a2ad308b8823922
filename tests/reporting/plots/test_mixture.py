"""Plots of a mixture: labels and contents."""

import pytest
import torch

from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots.mixture import draw_sheet, mixture_plots
from tests.conftest import composed


def drawn(*overrides, shape=(1, 8, 8)):
    run = composed("data.size=8", "model.backbone.channels=4", *overrides)
    return dict(mixture_plots(Sampler(build_networks(run.model, shape).generator), None, 0))


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(("model", "k", "mixed"), [("mog", 12, True), ("hmog", 4, True), ("mggan", 12, False)])
def test_rows_are_labelled_with_their_experts(model, k, mixed):
    found = drawn(f"model={model}", f"model.k={k}")
    experts = [f"expert {number}" for number in range(min(k, 8))]
    assert texts(found["within"]) == experts + ["mixture"] * mixed
    assert texts(found["across"]) == [f"{number} to {number + 1}" for number in range(min(k - 1, 8))]
    if mixed:
        assert texts(found["top"]) == [f"{number}" for number in range(k)]


def test_a_single_expert_has_only_its_interpolation():
    assert drawn("model=gan").keys() == drawn("model=mog", "model.k=1").keys() == {"within"}


def test_shares_of_a_level_of_the_tree_sum_to_one():
    shares = [int(text.rstrip("%")) for text in texts(drawn("model=hmog", "model.k=4")["tree"])]
    assert len(shares) == 7 and shares[0] == 100
    assert abs(sum(shares[1:3]) - 100) <= 1 and abs(sum(shares[3:]) - 100) <= 2


@pytest.mark.parametrize("channels", [3, 4])
def test_images_may_have_three_or_four_channels(channels):
    assert "within" in drawn("model=mog", "model.k=2", shape=(channels, 8, 8))


def test_a_sheet_places_images_by_row_and_column():
    images = torch.arange(6, dtype=torch.uint8).view(2, 3, 1, 1, 1).expand(2, 3, 1, 4, 4) * 40
    sheet = draw_sheet(images, ["a", "b"]).axes[0].images[0].get_array()
    assert [[sheet[5 * row, 5 * column, 0] for column in range(3)] for row in range(2)] == [
        [0, 40, 80],
        [120, 160, 200],
    ]
    assert (sheet[4] == 255).all()

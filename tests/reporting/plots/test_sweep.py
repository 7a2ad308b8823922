"""Plots of sweeps: which values are drawn where."""

import random

import numpy as np
import pytest

from mixgan_cli.evaluation.ranking import deciding
from mixgan_cli.reporting.plots.sweep import draw_samples, sweep_plots


class Of:
    """A table whose rows are given."""

    def __init__(self, keys, rows, metrics=("fid",), protocols=1):
        self.keys, self.main_metrics, self.protocols = keys, list(metrics), [{}] * protocols
        self._rows = [{"done": 1, "protocol": 1, **row} for row in rows]

    def by_configuration(self):
        return self._rows


def row(fid, sd=None, **keys):
    return {**{key.replace("__", "."): value for key, value in keys.items()}, "fid": fid, "fid_sd": sd}


def test_beta_by_k_is_a_heat_map_with_numbers_in_order():
    cells = {("1", "8"): 4.0, ("0.1", "8"): 3.0, ("0.1", "16"): 2.0, ("1", "16"): 1.0}
    rows = [row(fid, 0.5, model__beta=beta, model__k=k) for (beta, k), fid in cells.items()]
    ((metric, figure),) = sweep_plots(Of(["model.beta", "model.k", "seed"], rows))
    axes = figure.axes[0]
    assert metric == "fid" and figure.get_suptitle() == "fid ↓"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0.1", "1"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16"]  # in numeric order
    np.testing.assert_array_equal(axes.images[0].get_array(), [[3.0, 2.0], [4.0, 1.0]])
    assert {text.get_position(): text.get_text() for text in axes.texts}[(1, 0)] == "2.00\n± 0.50"


def test_brightest_cell_is_the_best_by_the_ranking():
    """The best MS-SSIM is that of real samples, not the lowest one."""
    cells = {("0", "2"): 0.1, ("0", "4"): 0.25, ("1", "2"): 0.3, ("1", "4"): 0.6}
    rows = [
        {"model.beta": beta, "model.k": k, "ms_ssim": value, "ms_ssim_sd": None, "ms_ssim_real": 0.3}
        for (beta, k), value in cells.items()
    ]
    ((_, figure),) = sweep_plots(Of(["model.beta", "model.k"], rows, metrics=["ms_ssim"]))
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), [[0.2, 0.05], [0, 0.3]], atol=1e-12)
    brightness = image.to_rgba(image.get_array())[..., :3].sum(axis=2)
    assert brightness.argmax() == 2 and brightness.argmin() == 3
    best = min(cells, key=lambda cell: deciding({"ms_ssim": cells[cell], "ms_ssim_real": 0.3}).rank_value)
    assert best == ("1", "2")


def test_a_map_needs_two_by_two_filled_cells():
    """Of three models, one has such a block and an empty cell, one a diagonal, and one a single row."""
    cells = {"a": ["0 2", "0 4", "1 2", "1 4", "2 2"], "b": ["0 2", "1 4"], "c": ["0 2", "0 4"]}
    rows = [row(float(n), model=model, model__beta=beta, model__k=k) for model, of in cells.items()
            for n, (beta, k) in enumerate(map(str.split, of))]  # fmt: skip
    ((_, figure),) = sweep_plots(Of(["model", "model.beta", "model.k"], rows))
    image, _ = figure.axes  # a map and its colour bar
    assert image.get_title() == "a"
    np.testing.assert_array_equal(
        np.ma.filled(image.images[0].get_array(), np.nan), [[0.0, 1.0], [2.0, 3.0], [4.0, np.nan]]
    )


def test_without_a_map_there_are_lines_over_k():
    rows = [row(float(n + k), model=f"m{n}", model__beta="1", model__k=str(k)) for n in range(8) for k in (2, 4)]
    rows += [row(9.0, model="m0", model__beta="2", model__k="2")]
    ((_, figure),) = sweep_plots(Of(["model", "model.beta", "model.k"], rows))
    (axes,) = figure.axes
    names = [container.get_label() for container in axes.containers]
    assert names == [*(f"m{n}, beta=1" for n in range(8)), "m0, beta=2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of experts K", "fid")


def searched(kind, n=60):
    """Rows of a search over beta, K and a learning rate: random values with a filled block, or a block per rate."""
    draws = random.Random(0)
    for number in range(n):
        group, down, across = number // 4, number // 2 % 2, number % 2
        if kind == "block per rate":
            beta, k, rate = (1 + down) * 1.01**group, 2 + 3 * group + across, 1e-4 * 1.01**group
        elif number < 4:
            beta, k, rate = 0.1 + down, 2 + across, 1e-4
        else:
            beta, k, rate = 10 ** draws.uniform(-3, 0), draws.randint(2, 640), 1e-4
        yield row(draws.random(), model__beta=f"{beta}", model__k=f"{k}", lr=f"{rate}")


@pytest.mark.parametrize("kind", ["block and random", "block per rate"])
def test_a_search_at_random_values_has_lines(kind):
    """A map would have a cell for every pair of values: its size would grow with the square of the trials."""
    ((_, figure),) = sweep_plots(Of(["model.beta", "model.k", "lr"], list(searched(kind))))
    (axes,) = figure.axes
    assert not axes.images and axes.get_legend() is None and len(axes.get_xticks()) <= 12
    assert figure.get_size_inches().tolist() == [4, 2.8]


def test_single_points_are_not_drawn():
    rows = [row(float(k), model=f"m{k}", model__k=str(k)) for k in (1, 8, 10)]
    assert list(sweep_plots(Of(["model", "model.k"], rows))) == []


def test_colour_bars_name_the_metric():
    rows = [row(float(beta + k), model__beta=str(beta), model__k=str(k)) for beta in (0, 1) for k in (2, 4)]
    ((_, figure),) = sweep_plots(Of(["model.beta", "model.k"], rows))
    assert figure.axes[1].get_ylabel() == "fid"


def test_one_swept_number_gives_lines_with_deviations():
    rows = [row(k * scale, 0.1 * k, model=model, model__k=str(k)) for model, scale in (("mog", 1.0), ("hmog", 2.0))
            for k in (16, 4, 8)]  # fmt: skip
    ((_, figure),) = sweep_plots(Of(["model", "model.k"], rows))
    (axes,) = figure.axes
    lines = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert lines == {"mog": [[4, 4], [8, 8], [16, 16]], "hmog": [[4, 8], [8, 16], [16, 32]]}


def test_every_group_is_drawn():
    rows = [row(float(n + k), model=f"m{n}", model__beta=beta, model__k=str(k)) for n in range(8) for k in (2, 4)
            for beta in "12"]  # fmt: skip
    ((_, figure),) = sweep_plots(Of(["model", "model.beta", "model.k"], rows))
    assert [axes.get_title() for axes in figure.axes[::2]] == [f"m{n}" for n in range(8)]


def test_a_constant_metric_is_not_drawn():
    rows = [row(1.0, model__k=k) for k in ("2", "4")]
    assert list(sweep_plots(Of(["model.k"], rows))) == []


def test_names_are_not_read_as_formulas():
    rows = [row(float(k), model="$\\x$", model__k=str(k)) for k in (2, 4)] + [row(9.0, model="b", model__k="2")]
    ((_, figure),) = sweep_plots(Of(["model", "model.k"], rows))
    figure.canvas.draw()


@pytest.mark.parametrize("keys", [["seed"], ["model"]])
def test_nothing_is_drawn_without_a_swept_number(keys):
    assert list(sweep_plots(Of(keys, [row(1.0, model="a"), row(2.0, model="b")]))) == []


def test_two_protocols_are_two_lines():
    rows = [{**row(k, model__k=str(k)), "protocol": protocol} for k in (2, 4) for protocol in (1, 2)]
    ((_, figure),) = sweep_plots(Of(["model.k"], rows, protocols=2))
    assert len(figure.axes[0].containers) == 2


def test_samples_have_the_name_of_their_configuration():
    pictures = {f"model.k={k}": np.full((4, 4, 3), k, dtype=np.uint8) for k in range(6)}
    axes = draw_samples(pictures).axes
    assert [each.get_title() for each in axes] == list(pictures)
    assert [each.images[0].get_array()[0, 0, 0] for each in axes] == list(range(6))

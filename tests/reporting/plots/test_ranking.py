"""Plots of configurations in the order of their means."""

import numpy as np
import pytest
from scipy import stats

from mixgan_cli.reporting.plots.ranking import MAX_METRICS, MAX_SHOWN, draw_ranking, ranking_plots
from mixgan_cli.reporting.statistics_tables import Configuration
from mixgan_cli.reporting.sweep_table import Entry


def of(k, values, metric="fid", **others):
    """Return a configuration with a value for each seed."""
    entries = {f"{seed}": Entry(None, 1, {metric: value, **others}) for seed, value in enumerate(values)}
    return Configuration({"model.k": f"{k}"}, entries)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize(("metric", "order"), [("fid", ["8", "2", "4"]), ("inception_score", ["4", "2", "8"])])
def test_the_best_mean_is_first(metric, order):
    runs = [of(2, [3.0, 5.0], metric), of(4, [6.0, 6.5], metric), of(8, [1.0, 2.0], metric)]
    axes, ranks = draw_ranking(metric, runs).axes
    assert labels(axes.yaxis) == [f"{k} (n=2)" for k in order] and axes.get_ylim()[0] > axes.get_ylim()[1]
    assert labels(ranks.yaxis) == ["1.0", "2.0", "3.0"] and "↓↑"[metric != "fid"] in axes.get_title()


def test_each_seed_the_mean_and_its_interval_are_drawn():
    values = [3.0, 5.0, 4.5]
    axes, _ = draw_ranking("fid", [of(2, values), of(4, [9.0, 10.0, 11.0])]).axes
    assert axes.lines[0].get_xdata().tolist() == values
    (mean, _, (bar,)) = axes.containers[0].lines
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean.get_xdata().tolist() == pytest.approx([np.mean(values)])
    assert bar.get_segments()[0][:, 0].tolist() == pytest.approx([low, high])


def test_a_wide_interval_does_not_hide_the_values():
    """The interval of 1 and 7 is 4 ± 38. The values have the range 6, of which half is shown on each side."""
    axes, _ = draw_ranking("fid", [of(2, [1.0, 7.0]), of(4, [2.0, 2.1])]).axes
    assert axes.get_xlim() == pytest.approx((-2.0, 10.0))


def test_nearest_to_real_samples_is_first():
    runs = [of(k, [k / 10, k / 10 + 0.01], "ms_ssim", ms_ssim_real=0.4) for k in (1, 4, 8)]
    axes, ranks = draw_ranking("ms_ssim", runs).axes
    assert labels(axes.yaxis) == ["4 (n=2)", "1 (n=2)", "8 (n=2)"]
    assert labels(ranks.yaxis) == ["1.0", "2.0", "3.0"]  # not by size


def test_ranks_are_over_the_seeds_of_all():
    """In the second seed the order is reversed; only two configurations have the third one."""
    runs = [of(2, [1.0, 5.0, 1.0]), of(4, [2.0, 4.0, 9.0]), of(8, [8.0, 3.0])]
    assert labels(draw_ranking("fid", runs).axes[1].yaxis) == ["2.0", "2.0", "2.0"]
    assert len(draw_ranking("fid", [runs[0], Configuration({}, {"7": Entry(None, 1, {"fid": 1.0})})]).axes) == 1


def test_only_metrics_with_a_best_value_and_several_seeds_are_drawn():
    metrics = [f"fid_{n}" for n in range(MAX_METRICS + 1)]
    many = dict.fromkeys(metrics, 1.0)
    runs = [of(k, [k, k + 1.0], "gate_entropy", **many) for k in (2, 4)]
    assert [name for name, _ in ranking_plots(runs, ["gate_entropy", *metrics])] == metrics[:MAX_METRICS]
    assert list(ranking_plots(runs[:1], metrics)) == []
    assert list(ranking_plots([of(2, [1.0]), of(4, [2.0])], ["fid"])) == []


def test_a_plot_has_a_limited_number_of_lines():
    axes = draw_ranking("fid", [of(k, [k, k + 1.0]) for k in range(MAX_SHOWN + 5)]).axes[0]
    assert len(labels(axes.yaxis)) == MAX_SHOWN and axes.get_title() == "fid ↓ (30 of 35 configurations)"


def test_names_are_values_below_their_keys():
    keys = {"model/gate": "tree", "model.k": "2", "$\\x$": None}
    runs = [Configuration({**keys, "model.k": k}, of(k, [k, k + 1.0]).by_seed) for k in (2, 4)]
    figure = draw_ranking("fid", runs)
    axes = figure.axes[0]
    assert labels(axes.yaxis) == ["tree, 2, – (n=2)", "tree, 4, – (n=2)"]
    assert axes.texts[0].get_text() == r"gate, k, \$\x\$"
    figure.canvas.draw()

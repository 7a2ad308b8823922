"""The tables of statistics, from results written by hand."""

import json
from io import BytesIO

import pytest
from scipy import stats

from mixgan_cli.reporting.plots.ranking import ranking_plots
from mixgan_cli.reporting.statistics_tables import (
    MAX_FACTORS,
    MAX_LEVELS,
    MAX_ROWS,
    measured_configurations,
    statistics_tables,
)
from mixgan_cli.reporting.sweep_table import SweepTable
from mixgan_cli.sweeps.sweep import Job

SEEDS = (0, 1, 2)
GAN, TWO, FOUR = (9.0, 8.0, 10.0), (7.0, 6.5, 7.5), (6.0, 7.0, 5.0)


@pytest.fixture
def table(tmp_path):
    """Make a table of runs, each (values of keys, metrics), all of one protocol."""

    def make(*runs):
        jobs = []
        for number, (values, metrics) in enumerate(runs):
            run = tmp_path / f"{number}"
            run.mkdir()
            results = {"metrics": metrics, "protocol": {"n_fake": 16}, "unavailable": {}}
            (run / "results.json").write_text(json.dumps(results))
            overrides = tuple(f"{key}={value}" for key, value in values.items())
            jobs.append(Job(overrides, number, "done", 0, run_dir=str(run)))
        return SweepTable(jobs)

    return make


def runs(keys, fids, seeds=SEEDS, **others):
    return [({**keys, "seed": seed}, {"fid": fid, **others}) for seed, fid in zip(seeds, fids, strict=False)]


def three():
    return [
        *runs({"model": "gan", "model.k": 1}, GAN),
        *runs({"model": "mog", "model.k": 2}, TWO),
        *runs({"model": "mog", "model.k": 4}, FOUR),
    ]


def test_differences_are_paired_by_seed_and_corrected(table):
    differences, _ = statistics_tables(table(*three()), None, {})
    assert [[row[key] for key in ("model", "model.k", "difference", "n")] for row in differences.exact] == [
        ["mog", "2", pytest.approx(-2), 3], ["mog", "4", pytest.approx(-3), 3],
    ]  # fmt: skip
    tests = [stats.ttest_rel(values, GAN) for values in (TWO, FOUR)]
    assert [row["p"] for row in differences.exact] == pytest.approx([test.pvalue for test in tests])
    assert [row["low"] for row in differences.exact] == pytest.approx(
        [test.confidence_interval().low for test in tests]
    )
    small, large = sorted(test.pvalue for test in tests)
    assert sorted(row["p_holm"] for row in differences.exact) == pytest.approx([2 * small, max(2 * small, large)])
    assert differences.page.title == "Differences from model=gan, model.k=1, paired by seed"
    assert differences.page.remarks[0] == "Reference: model=gan, model.k=1 (one expert)."
    assert differences.page.rows[0]["difference"] == "-2.0" and "fid the lowest" in differences.page.remarks[1]
    assert differences.page.rows[0]["95 % interval"] == "-3.2 to -0.8"  # 2 ± 4.3027 · 0.5 / √3


def test_seeds_of_one_side_are_left_out_and_counted(table):
    of = [*runs({"model.k": 1}, GAN), *runs({"model.k": 2}, TWO, seeds=(2, 3, 0)), *runs({"model.k": 4}, FOUR[:1])]
    differences, _ = statistics_tables(table(*of), None, {})
    two, four = differences.exact
    assert (two["difference"], two["n"], two["unpaired_seeds"]) == (pytest.approx((7 - 10 + 7.5 - 9) / 2), 2, 2)
    assert (four["difference"], four["n"], four["unpaired_seeds"], four["low"], four["p"]) == (-3, 1, 2, None, None)
    assert differences.formatted[1]["remark"] == "no interval: fewer than 2 common seeds"
    assert two["p_holm"] == two["p"]  # the only test


def test_equal_differences_have_no_interval(table):
    of = [*runs({"model.k": 1}, GAN), *runs({"model.k": 2}, [fid - 0.1 for fid in GAN])]
    differences, _ = statistics_tables(table(*of), None, {})
    assert differences.exact[0]["p"] is None
    assert differences.formatted[0]["remark"] == "no interval: equal for all seeds"


@pytest.mark.parametrize(
    ("baseline", "reference", "why"),
    [({"model.k": "4.0"}, "model=mog, model.k=4", "Reference: model=mog, model.k=4."),
     ({"model": "mog"}, "model=mog, model.k=4", "the best of 2 configurations with model=mog by fid"),
     ({"model": "x"}, None, "No paired differences: no configuration of this group has model=x.")],
)  # fmt: skip
def test_baseline_names_the_reference(table, baseline, reference, why):
    differences, _ = statistics_tables(table(*three()), None, baseline)
    assert why in differences.page.remarks[0]
    assert (f"Differences from {reference}, " in differences.page.title) == bool(differences.exact) == bool(reference)


def test_each_configuration_has_the_reference_that_is_nearest(table):
    """Several configurations have the baseline's values: tree and gumbel are compared within their objective."""
    values = {("gan", "a"): 9.0, ("tree", "a"): 7.0, ("gumbel", "a"): 6.5, ("gan", "b"): 20.0, ("tree", "b"): 21.0}
    values["tree", "c"] = 5.0  # as near to both
    of = [
        run
        for (gate, loss), fid in values.items()
        for run in runs({"gate": gate, "loss": loss}, (fid, fid + 1, fid + 3))
    ]
    differences, _ = statistics_tables(table(*of), None, {"gate": "gan"})
    found = {(row["gate"], row["loss"]): (row["difference"], row["reference"]) for row in differences.exact}
    assert found == {
        ("tree", "a"): (-2, "gate=gan, loss=a"), ("gumbel", "a"): (-2.5, "gate=gan, loss=a"),
        ("tree", "b"): (1, "gate=gan, loss=b"),
    }  # fmt: skip
    assert differences.page.title == "Differences from configurations with gate=gan, paired by seed"
    assert (
        "most values in common with it. Left out, because several are equally near: 1." in differences.page.remarks[0]
    )


def test_without_a_single_generator_the_best_is_the_reference(table):
    """The best Inception score is the highest one; the page says that the reference was chosen by its results."""
    of = [
        ({"model.k": k, "seed": s}, {"inception_score": k + s / 10 + (k == 4 == s)}) for k in (2, 4, 8) for s in SEEDS
    ]
    differences, _ = statistics_tables(table(*of), None, {})
    assert differences.page.title.startswith("Differences from model.k=8")
    assert "chosen by its results" in differences.page.remarks[0] and "baseline=" in differences.page.remarks[0]


def test_chosen_metrics_form_the_family_of_holm(table):
    of = [(values, {**metrics, "nmi": 1 / metrics["fid"], "kid": metrics["fid"] ** 2}) for values, metrics in three()]
    everything = statistics_tables(table(*of), None, {})[0]
    assert [row["metric"] for row in everything.exact] == ["fid", "fid", "kid", "kid"]
    assert "over the 4 tests" in everything.page.remarks[-1]


def test_a_chosen_metric_need_not_rank_runs(table):
    of = [(values, {**metrics, "gate_entropy": 1 / metrics["fid"]}) for values, metrics in three()]
    differences, effects = statistics_tables(table(*of), ["gate_entropy"], {})
    assert {row["metric"] for row in (*differences.exact, *effects.exact)} == {"gate_entropy"}
    assert not any("Best values" in remark for remark in differences.page.remarks)


def test_effects_name_what_is_confounded(table):
    _, effects = statistics_tables(table(*three()), None, {})
    rows = {(row["key"], row["value"]): row for row in effects.formatted}
    assert rows["model", "gan"]["remark"] == "no effect: confounded with model.k"
    assert rows["model.k", "2"]["remark"] == "compared with 2 / 4 only: confounded with model"
    two = next(row for row in effects.exact if row["value"] == "2")
    assert (two["effect"], two["n"], two["confounded_with"]) == (pytest.approx(0.5), 3, "model")
    assert effects.formatted[0]["95 % interval"] is None


def test_effects_are_additive_over_keys(table):
    """Four gates and K by three seeds, without noise except in one run."""
    of = [
        ({"model/gate": gate, "model.k": k, "seed": seed}, {"fid": 10 + 2 * (gate == "tree") + 0.5 * k + seed})
        for gate in ("tree", "softmax") for k in (16, 4) for seed in SEEDS
    ]  # fmt: skip
    of[0][1]["fid"] += 0.01
    _, effects = statistics_tables(table(*of), None, {})
    rows = [[row[key] for key in ("key", "value", "effect", "compared_with")] for row in effects.exact]
    assert rows == [
        ["model/gate", "softmax", pytest.approx(-1, abs=0.01), "all"],
        ["model/gate", "tree", pytest.approx(1, abs=0.01), "all"],
        ["model.k", "4", pytest.approx(-3, abs=0.01), "all"],  # numbers in their order
        ["model.k", "16", pytest.approx(3, abs=0.01), "all"],
    ]
    assert all(0 < row["high"] - row["low"] < 0.02 for row in effects.exact)


def test_keys_with_many_values_have_no_effects(table):
    rates = [
        ({"lr": rate, "model.k": rate % 2, "seed": rate % 3}, {"fid": rate**1.5}) for rate in range(MAX_LEVELS + 1)
    ]
    twice = [({**values, "seed": 9}, {"fid": metrics["fid"] + 1 / (1 + metrics["fid"])}) for values, metrics in rates]
    _, effects = statistics_tables(table(*rates, *twice), None, {})
    assert {row["key"] for row in effects.exact} == {"model.k"}
    assert any(remark.startswith("lr: left out") for remark in effects.page.remarks)


def test_many_keys_have_no_effects(table):
    n = MAX_FACTORS + 1
    of = [
        ({**{f"key{key}": int(key == number) for key in range(n)}, "seed": seed}, {"fid": number + seed**2})
        for number in range(n + 1) for seed in (0, 1)
    ]  # fmt: skip
    _, effects = statistics_tables(table(*of), None, {})
    assert not effects.exact and any("more than 12 keys vary" in remark for remark in effects.page.remarks)


def test_one_seed_or_equal_values_have_no_statistics(table):
    assert statistics_tables(table(*runs({"model.k": 1}, GAN[:1]), *runs({"model.k": 2}, TWO[:1])), None, {}) == []


def test_constant_metrics_are_not_compared(table):
    equal = [*runs({"model.k": 1}, (5.0,) * 3), *runs({"model.k": 2}, (5.0,) * 3)]
    assert statistics_tables(table(*equal), None, {}) == []


def test_the_page_shows_a_limited_number_of_rows(table):
    of = [run for k in range(MAX_ROWS + 11) for run in runs({"model.k": k}, (k, k * k), seeds=(0, 1))]
    differences = statistics_tables(table(*of), None, {})[0]
    assert (
        len(differences.page.rows) == MAX_ROWS and len(differences.exact) == MAX_ROWS + 10 and differences.page.folded
    )
    assert differences.page.remarks[-1] == "10 more rows are in the files."


@pytest.mark.parametrize("huge", [10**299, 9e299, -9e299, 1e-320])
def test_extreme_values_have_tables_and_plots(table, huge):
    """Anyone may have written a run."""
    of = [*runs({"model.k": 1}, (huge, 2 * huge / 3, huge / 2)), *runs({"model.k": 2}, (0, huge, -huge))]
    made = table(*of)
    assert [len(each.exact) for each in statistics_tables(made, None, {})] == [1, 2]
    ((_, figure),) = ranking_plots(measured_configurations(made), ["fid"])
    figure.savefig(BytesIO())

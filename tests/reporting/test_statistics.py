"""Statistics of repeated runs, compared with SciPy, statsmodels, NumPy's least squares and numbers by hand."""

import numpy as np
import pytest
from scipy import stats

from mixgan_cli.reporting.statistics import confounders, holm, joined_factors, main_effects, mean_estimate, mean_ranks

RANDOM = np.random.default_rng(0)


def test_mean_difference_and_interval_by_hand():
    """Differences 1, 2, 6: mean 3, sample variance 7; t of two degrees of freedom is 4.3027 at 0.975."""
    estimate = mean_estimate(np.array([1.0, 2.0, 6.0]))
    assert (estimate.value, estimate.n) == (3.0, 3)
    assert estimate.half == pytest.approx(4.30265 * (7 / 3) ** 0.5, rel=1e-5)
    assert (estimate.low, estimate.high) == (3 - estimate.half, 3 + estimate.half)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_paired_differences_equal_those_of_scipy(n):
    one, other = RANDOM.normal(20, 3, n), RANDOM.normal(21, 3, n)
    estimate, expected = mean_estimate(one - other), stats.ttest_rel(one, other)
    interval = expected.confidence_interval(0.95)
    assert estimate.p == pytest.approx(expected.pvalue, rel=1e-10)
    assert [estimate.low, estimate.high] == pytest.approx([interval.low, interval.high], rel=1e-10)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([], None), ([2.5], 2.5), ([0.5, 0.5, 0.5], 0.5), ([0.3 - 0.1, 0.5 - 0.3], 0.2), ([1e308, 1e308], None)],
)
def test_one_value_or_equal_ones_have_no_interval(values, mean):
    estimate = mean_estimate(np.array(values))
    assert estimate.value == (None if mean is None else pytest.approx(mean)) and estimate.n == len(values)
    assert estimate.half is None and estimate.p is None and estimate.low is None


def test_holm_by_hand():
    """0.01 · 4, 0.02 · 3, then 0.03 · 2 and 0.04 · 1, neither below the one before; a missing p does not count."""
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0] and holm([]) == []


def test_holm_equals_that_of_statsmodels():
    multitest = pytest.importorskip(
        "statsmodels.stats.multitest", reason="no statsmodels: Holm is compared by hand only"
    )
    p_values = RANDOM.uniform(0, 0.1, 20)
    assert holm(list(p_values)) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_effects_of_a_balanced_design_are_differences_of_means():
    """Two gates by two K by two seeds. Each effect is the mean of its four runs minus that of all eight."""
    gate, k, seed = ([f"{(number >> bit) & 1}" for number in range(8)] for bit in range(3))
    values_N = np.array([3.0, 5.0, 4.0, 9.0, 2.0, 6.0, 3.5, 8.0])
    effects = main_effects({"gate": gate, "k": k}, values_N, {"seed": seed})
    for name, levels in (("gate", gate), ("k", k)):
        for effect in effects[name]:
            of_level = values_N[np.array(levels) == effect.level]
            assert effect.estimate.value == pytest.approx(of_level.mean() - values_N.mean()) and effect.n == 4
            assert effect.compared == ("0", "1")
    signs = {"gate": np.tile([-1, 1], 4), "k": np.tile([-1, -1, 1, 1], 2), "seed": np.repeat([-1, 1], 4)}
    residuals = values_N - values_N.mean() - sum(sign * (sign @ values_N) / 8 for sign in signs.values())
    deviation = (residuals @ residuals / 4) ** 0.5  # eight runs, four coefficients
    assert effects["gate"][0].estimate.half == pytest.approx(2.7764451 * deviation / 8**0.5, rel=1e-6)


def unbalanced(n=40):
    """Runs of three gates, two heads and four seeds at random, with an effect of the gate."""
    draws = np.random.default_rng(3)
    factors = {
        "gate": draws.choice(["none", "soft", "tree"], n, p=[0.2, 0.3, 0.5]).tolist(),
        "head": draws.choice(["score", "class"], n, p=[0.3, 0.7]).tolist(),
    }
    seed = draws.choice(["0", "1", "2", "3"], n).tolist()
    values_N = draws.normal(10, 1, n) + np.array([{"none": 0, "soft": 1, "tree": 3}[gate] for gate in factors["gate"]])
    return factors, {"seed": seed}, values_N


def test_unbalanced_effects_equal_textbook_least_squares():
    """The design without the first level of each factor, its normal equations, and a contrast of their solution."""
    factors, block, values_N = unbalanced()
    columns = [
        (name, level) for name, levels in {**factors, **block}.items() for level in list(dict.fromkeys(levels))[1:]
    ]
    design = np.column_stack(
        [np.ones(40), *(np.array({**factors, **block}[name]) == level for name, level in columns)]
    ).astype(float)
    beta, (squares,), *_ = np.linalg.lstsq(design, values_N)
    df = len(values_N) - design.shape[1]
    covariance = squares / df * np.linalg.inv(design.T @ design)
    for name, effects in main_effects(factors, values_N, block).items():
        levels = [effect.level for effect in effects]
        for effect in effects:
            weights = np.zeros(len(beta))
            for number, (factor, level) in enumerate(columns, start=1):
                if factor == name:
                    weights[number] = (level == effect.level) - 1 / len(levels)
            error = (weights @ covariance @ weights) ** 0.5
            assert effect.estimate.value == pytest.approx(weights @ beta)
            assert effect.estimate.half == pytest.approx(stats.t.ppf(0.975, df) * error)
            assert effect.estimate.p == pytest.approx(2 * stats.t.sf(abs(weights @ beta) / error, df))


def test_unbalanced_effects_equal_those_of_statsmodels():
    api = pytest.importorskip("statsmodels.formula.api", reason="no statsmodels: compared with NumPy only")
    factors, block, values_N = unbalanced()
    fitted = api.ols("y ~ C(gate, Sum) + C(head, Sum) + C(seed, Sum)", {**factors, **block, "y": values_N}).fit()
    effects = {
        (name, effect.level): effect.estimate
        for name, of in main_effects(factors, values_N, block).items()
        for effect in of
    }
    low, high = fitted.conf_int().loc["C(gate, Sum)[S.soft]"]
    assert (effects["gate", "soft"].low, effects["gate", "soft"].high) == pytest.approx((low, high))
    assert effects["head", "class"].value == pytest.approx(fitted.params["C(head, Sum)[S.class]"])


def test_confounded_levels_are_not_compared():
    """One generator has K = 1 only, so neither its effect nor that of K = 1 is known; K = 2 and 4 compare."""
    model, k = ["gan", "gan", *4 * ["mog"], *4 * ["hmog"]], [*"11", *2 * "2244"]
    seed = 5 * ["0", "1"]
    values_N = np.array([5.0, 6.0, 3.0, 3.5, 2.0, 2.2, 4.0, 4.4, 3.0, 3.1])
    effects = main_effects({"model": model, "k": k}, values_N, {"seed": seed})
    assert {effect.level: effect.compared for effect in effects["model"]} == {
        "gan": ("gan",), "mog": ("mog", "hmog"), "hmog": ("mog", "hmog"),
    }  # fmt: skip
    one, two, four = effects["k"]
    assert one.estimate is None and two.compared == ("2", "4")
    assert two.estimate.value == pytest.approx((values_N[[2, 3, 6, 7]].mean() - values_N[[4, 5, 8, 9]].mean()) / 2)
    assert four.estimate.value == pytest.approx(-two.estimate.value)
    factors = {"model": model, "k": k, "seed": seed}
    assert [confounders(factors, name) for name in factors] == [["k"], ["model"], []]


def test_keys_that_change_together_are_one_factor():
    factors = {"model": ["a", "b", "a"], "lr": ["1", "2", "1"], "size": ["8", "8", "8"], "k": ["2", "2", "4"]}
    assert joined_factors(factors) == {"model, lr": ["a, 1", "b, 2", "a, 1"], "k": ["2", "2", "4"]}


def test_a_saturated_model_has_no_intervals():
    effects = main_effects({"k": ["2", "4"]}, np.array([1.0, 3.0]), {"seed": ["0", "0"]})["k"]
    assert [effect.estimate.value for effect in effects] == pytest.approx([-1, 1])
    assert all(effect.estimate.half is None for effect in effects)


def test_mean_ranks_by_hand():
    """Three configurations, two seeds; the values of the second seed tie."""
    assert mean_ranks(np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 9.0]])).tolist() == [1.25, 2.25, 2.5]

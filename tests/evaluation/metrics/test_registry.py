"""What is known of a key of results.json, by the metric that writes it."""

import re

import pytest
import torch

from mixgan_cli.config.schema import conf_dir
from mixgan_cli.errors import ConfigError
from mixgan_cli.evaluation.metrics import Metric, ResultKey, registry
from mixgan_cli.evaluation.metrics.registry import choices, deviation, find, find_metrics, glossary, result_key
from tests.evaluation.conftest import colours, evaluator

KEYS = {
    "fid": ("fid", ""),
    "fid_768": ("fid", "_768"),
    "fid_dinov2-vit-b-14": ("fid", "_dinov2-vit-b-14"),
    "fid_by_expert": ("fid_by_expert", ""),
    "fid_by_expert_classifier/3": ("fid_by_expert", "_classifier"),
    "kid_768_std": ("kid_std", "_768"),
    "knn_fake_majority_known": ("knn_fake_majority", "_known"),
    "inception_score_pixels_std": ("inception_score_std", "_pixels"),
    "classifier_score": ("classifier_score", ""),
    "expert_usage/1 (full_interim)": ("expert_usage", ""),
    "ms_ssim_real": ("ms_ssim_real", ""),
}


@pytest.mark.parametrize("key", KEYS)
def test_key_is_found_with_its_suffix(key):
    found = find(key)
    assert (found.key, found.suffix) == KEYS[key]


@pytest.mark.parametrize("key", ["fid_sd", "fid_768_sd", "ms_ssim_sd", "loss/generator", "ms_ssim_pixels", "fidelity"])
def test_key_of_no_metric_is_not_found(key):
    assert find(key) is None
    assert result_key(key).role == ("deviation" if key.endswith("_sd") else "value")
    assert not result_key(key).decides


def test_every_value_has_a_meaning():
    for metric in registry.METRICS:
        assert metric.name in choices()
        for key, result in metric.results.items():
            assert result.meaning or result.role != "value", key


def test_quick_protocol_lists_every_choice():
    quick = (conf_dir() / "evaluation" / "quick.yaml").read_text()
    listed = quick[quick.index("metrics:") : quick.index("n_fake:")]
    assert set(choices()) <= set(re.findall(r"\w+", listed))


def test_deviation_is_over_draws_or_else_over_subsets():
    values = {"kid_768": 0.1, "kid_768_std": 0.01, "fid": 3.0, "fid_sd": 0.2, "fid_std": 9.0, "recall": 0.5}
    assert [deviation(key, values) for key in ("kid_768", "fid", "recall")] == [0.01, 0.2, None]


def test_glossary_explains_each_key_once():
    meanings = glossary(["fid", "fid_768", "knn_real", "kid_std", "loss/generator", "expert_usage"])
    assert list(meanings) == ["fid", "knn_real", "expert_usage"]


def test_direction_of_ms_ssim_is_that_of_real_samples():
    real = {"ms_ssim": 0.3, "ms_ssim_real": 0.3}
    diverse, collapsed = {**real, "ms_ssim": 0.1}, {**real, "ms_ssim": 0.6}
    order = [registry.rank_value("ms_ssim", values) for values in (real, diverse, collapsed)]
    assert order == pytest.approx([0, 0.2, 0.3])
    assert result_key("ms_ssim").arrow == "(best: as of real samples)"


class MeanDistance(Metric):
    """Distance of the means of features."""

    layer = "fid"
    results = {"mean_distance": ResultKey("lower", "Distance of means.")}  # noqa: RUF012

    def compute(self, comparison, extractor):
        fake, real = comparison.features(extractor)
        return {"mean_distance": torch.dist(fake.mean(dim=0), real.mean(dim=0)).item()}


class FidLike(MeanDistance):
    """Its key could be that of FID with an extractor named `like`."""

    results = {"fid_like": ResultKey("lower")}  # noqa: RUF012


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(registry, "METRICS", list(registry.METRICS))


def test_own_metric_of_features_gets_the_suffix(known, own):
    fake, real = colours(60, 9), colours(60)
    measured = evaluator(real, *known, f"evaluation.metrics=[{__name__}.MeanDistance]").measure(fake, {})
    means = [images.flatten(1)[:, :8].float().mean(dim=0) / 50 for images in (fake, real)]
    assert measured.metrics == {"mean_distance_known": pytest.approx(torch.dist(*means).item(), rel=1e-5)}
    assert find("mean_distance_known").suffix == "_known"


def test_key_that_reads_like_another_metric_is_refused(own):
    with pytest.raises(ConfigError, match=r"its key 'fid_like' reads like 'fid' of FID"):
        find_metrics([f"{__name__}.FidLike"])


def test_class_of_an_untrusted_package_is_not_imported(own):
    with pytest.raises(ConfigError, match=r"trusted=\[PACKAGE\]"):
        find_metrics([f"{__name__}.MeanDistance"], trusted=["elsewhere"])
    assert find_metrics([f"{__name__}.MeanDistance"], trusted=["tests"])

"""Which metric decides that a state or run is better than another."""

import pytest

from mixgan_cli.evaluation.ranking import best_values, deciding

RANKED = [
    ({"ms_ssim": 0.3, "ms_ssim_real": 0.2, "fid_768": 2.0, "inception_score": 5.0}, ("fid_768", 2.0, 2.0)),
    ({"inception_score": 5.0, "inception_score_std": 0.1, "kid": 0.1}, ("inception_score", 5.0, -5.0)),
    ({"kid_768": 0.1, "kid_768_std": 0.05, "knn_fake": 0.9, "knn_real": 0.9}, ("kid_768", 0.1, 0.1)),
    ({"knn_fake": 0.7, "knn_real": 0.4, "ms_ssim": 0.3, "ms_ssim_real": 0.2}, ("knn_fake", 0.7, 0.3)),
    ({"precision": 0.8, "recall": 0.1}, ("precision", 0.8, -0.8)),
    ({"knn_fake_768": 0.7, "knn_real_768": 0.4}, ("knn_fake_768", 0.7, 0.3)),
    (
        {"high_quality": 1.0, "symmetric_kl": 4.0, "symmetric_kl_real": 0.1},
        ("symmetric_kl", 4.0, 4.0),
    ),  # or collapse wins
    ({"high_quality": 0.9, "modes_covered": 8}, ("high_quality", 0.9, -0.9)),
    ({"ms_ssim": 0.3, "ms_ssim_real": 0.5}, ("ms_ssim", 0.3, 0.2)),
]


@pytest.mark.parametrize(("metrics", "expected"), RANKED)
def test_metric_that_decides(metrics, expected):
    name, value, rank_value = deciding(metrics)
    assert (name, value) == expected[:2] and rank_value == pytest.approx(expected[2])


def test_metrics_without_direction_decide_nothing():
    assert deciding({"gate_entropy": 1.0}) is None


def test_best_values_are_of_the_first_protocol_of_a_metric():
    records = [
        {"nimg": 1, "loss/generator": 0.1},
        {"nimg": 1, "protocol": "interim", "fid": 9.0, "inception_score": 2.0, "kid_std": 0.1},
        {"nimg": 2, "protocol": "interim", "fid": 7.0, "inception_score": 1.0},
        {"nimg": 3, "protocol": "interim", "fid": 8.0, "inception_score": 3.0},
        {"nimg": 3, "protocol": "final", "fid": 1.0, "kid": 0.5},
    ]
    assert best_values(records) == {"fid": 7.0, "inception_score": 3.0, "kid": 0.5}

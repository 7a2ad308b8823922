"""Features of real images are computed once, and cached by content."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from mixgan_cli.data.cache import cache_dir
from tests.evaluation.conftest import KnownLogits, colours, evaluator

ALL = "evaluation.metrics=[fid,kid,prc]"


@pytest.fixture
def seen(monkeypatch):
    """Record the number of images in each batch of an extractor."""
    numbers = []

    class Counting(KnownLogits):
        def forward(self, images):
            numbers.append(len(images))
            return super().forward(images)

    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "known", Counting)
    return numbers


def measured(real, fake, *overrides):
    return evaluator(real, "evaluation.extractors=[known]", ALL, *overrides).measure(fake, {}).metrics


def files():
    return sorted((cache_dir() / "references").glob("*.npz"))


def test_features_are_computed_once(seen):
    real, fake = colours(100), colours(80, 5)
    first = measured(real, fake)
    looked = sum(seen)
    assert measured(real, fake) == first
    assert sum(seen) - looked == looked - 100  # all but the reals
    assert len(files()) == 2 and not list((cache_dir() / "references").glob(".*"))


def test_weights_are_read_once_per_set_of_layers(monkeypatch):
    built = []

    class Built(KnownLogits):
        def __init__(self, *arguments, **settings):
            built.append(arguments)
            super().__init__(*arguments, **settings)

    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "known", Built)
    found = evaluator(colours(100), "evaluation.extractors=[known]", "evaluation.metrics=[fid]")
    found.measure(colours(80, 5), {})
    found.measure(colours(80, 6), {})
    assert len(built) == 1


def test_other_real_images_are_computed_anew(seen):
    real, fake = colours(100), colours(80, 5)
    first = measured(real, fake)
    changed = real.clone()
    changed[:, 0, 0, :8] = 0
    assert measured(changed, fake)["fid_known"] != first["fid_known"]
    assert measured(real[:90], fake)["fid_known"] != first["fid_known"]
    assert len(files()) == 6


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:50]), lambda path: path.write_bytes(b"")]
)
def test_damaged_file_is_replaced(seen, damage):
    real, fake = colours(100), colours(80, 5)
    first = measured(real, fake)
    for path in files():
        damage(path)
    assert measured(real, fake) == first
    with np.load(files()[0]) as arrays:
        assert list(arrays)


def test_unwritable_cache_does_not_change_results(seen, monkeypatch):
    real, fake = colours(100), colours(80, 5)
    first = measured(real, fake)
    monkeypatch.setenv("MIXGAN_CACHE", "/proc/nowhere")
    assert measured(real, fake) == first
    assert not Path("/proc/nowhere").exists()


def test_one_pass_serves_all_metrics(seen):
    settings = "evaluation.metrics=[fid,inception_score,kid,prc,knn]", "evaluation.neighbour_features=features"
    measured(colours(100), colours(80, 5), *settings)
    assert sum(seen) == 2 + 80 + 100  # a probe, the fakes, the reals


def test_several_seeds_give_mean_and_deviation(mixgan):
    from tests.conftest import TINY

    run = mixgan("train", *TINY).json["run_dir"]
    settings = ("evaluation.download=false", "evaluation.n_fake=16", "evaluation.n_real=16", "hardware=cpu")
    single = [mixgan("evaluate", f"run={run}", *settings, f"seed={seed}").json["metrics"] for seed in (7, 8, 9)]
    together = mixgan("evaluate", f"run={run}", *settings, "seed=7", "evaluation.seeds=3").json
    values = np.array([metrics["ms_ssim"] for metrics in single])
    assert together["metrics"]["ms_ssim"] == pytest.approx(values.mean())
    assert together["metrics"]["ms_ssim_sd"] == pytest.approx(values.std(ddof=1))
    usage = np.mean([metrics["expert_usage"] for metrics in single], axis=0)
    assert together["metrics"]["expert_usage"] == pytest.approx(usage)
    assert together["protocol"]["sample_seeds"] == [7, 8, 9] and "ms_ssim_real_sd" not in together["metrics"]


def test_interim_evaluation_has_fewer_metrics(mixgan):
    from tests.conftest import TINY

    during = "evaluation.interim={metrics: [ms_ssim], n_fake: 8, n_real: 8}"
    outcome = mixgan("train", *TINY, "training.evaluate_nimg=40", during)
    assert outcome.code == 0, outcome.err
    log = Path(outcome.json["run_dir"], "metrics.jsonl").read_text().splitlines()
    evaluations = [line for line in log if "ms_ssim" in line]
    assert len(evaluations) == 3 and [("knn_fake" in line) for line in evaluations] == [False, False, True]


def test_fid_alone_keeps_no_features():
    """The pass keeps only moments if FID is the only metric."""
    found = evaluator(colours(100), "evaluation.extractors=[pixels]", "evaluation.metrics=[fid]")
    features = found.store.of_fakes("pixels", colours(60))
    assert features.kept == {} and set(features.moments) == {"pixels"} and features.moments["pixels"].state()["n"] == 60
    assert torch.isfinite(torch.tensor(found.measure(colours(60), {}).metrics["fid_pixels"]))

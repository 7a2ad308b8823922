"""Metrics compared with torch-fidelity's command line and functions, with an extractor of known answers."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image

from mixgan_cli.data.datasets.arrays import read_array
from mixgan_cli.data.datasets.mnist import FashionMNIST
from mixgan_cli.errors import ConfigError
from mixgan_cli.evaluation import inception
from mixgan_cli.evaluation.metrics.ms_ssim import MSSSIM
from tests.conftest import real_folder
from tests.evaluation.conftest import colours, evaluator


def folder_of(path, images):
    path.mkdir()
    for number, image in enumerate(images):
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(path / f"{number:05d}.png")
    return str(path)


def test_metrics_equal_torch_fidelity_on_the_same_files(known, tmp_path):
    fake, real = colours(1000, shift=8), colours(1000)
    ours = evaluator(real, *known, "evaluation.metrics=[fid,inception_score,kid,prc]").measure(fake, {}).metrics
    theirs = torch_fidelity.calculate_metrics(
        input1=folder_of(tmp_path / "fake", fake), input2=folder_of(tmp_path / "real", real), cuda=False, isc=True,
        fid=True, kid=True, prc=True, feature_extractor="known", cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    assert ours["fid_known"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["inception_score_known"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert ours["inception_score_known_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)
    assert ours["kid_known"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    for key in ("precision", "recall"):  # theirs are not centred first: an image at the edge of a ball may change sides
        assert ours[f"{key}_known"] == pytest.approx(theirs[key], abs=2 / 1000)


def test_inception_score_equals_its_definition(known):
    """exp of the mean divergence from the split's mean, over ten shuffled splits, from known logits."""
    fake = colours(200)
    metrics = evaluator(colours(50), *known, "evaluation.metrics=[inception_score]").measure(fake, {}).metrics
    logits = (fake.flatten(1)[:, 20:30].double() / 40).numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = p[np.random.RandomState(2020).permutation(200)]
    scores = [np.exp((part * np.log(part / part.mean(axis=0))).sum(axis=1).mean()) for part in np.split(p, 10)]
    assert metrics["inception_score_known"] == pytest.approx(np.mean(scores), rel=1e-6)
    assert metrics["inception_score_known_std"] == pytest.approx(np.std(scores), rel=1e-5)


def test_order_of_samples_does_not_change_inception_score(known):
    """Ten experts make one class each. Without shuffling, each split would hold one class and score 1."""
    ordered = torch.zeros(1000, 3, 16, 16, dtype=torch.uint8)
    ordered.flatten(1)[torch.arange(1000), 20 + torch.arange(1000) // 100] = 255
    metrics = evaluator(colours(50), *known, "evaluation.metrics=[inception_score]").measure(ordered, {}).metrics
    unshuffled = torch_fidelity.metric_isc.isc_features_to_metric(
        ordered.flatten(1)[:, 20:30].float() / 40, splits=10, shuffle=False
    )
    assert unshuffled["inception_score_mean"] == pytest.approx(1, abs=1e-6)
    assert metrics["inception_score_known"] > 5


def test_fid_of_a_set_with_itself_is_zero(known):
    images = colours(300)
    metrics = evaluator(images, *known, "evaluation.metrics=[fid]").measure(images, {}).metrics
    assert abs(metrics["fid_known"]) < 1e-6


def test_grey_images_are_repeated_to_three_channels(known):
    grey = (torch.rand(100, 1, 16, 16) * 255).to(torch.uint8)
    metrics = evaluator(grey, *known, "evaluation.metrics=[fid]").measure(grey.expand(-1, 3, -1, -1), {}).metrics
    assert abs(metrics["fid_known"]) < 1e-6


def test_batch_size_does_not_change_fid(known):
    fake, real = colours(130), colours(130, 5)
    values = [
        evaluator(real, *known, f"evaluation.batch={b}", "evaluation.metrics=[fid]")
        .measure(fake, {})
        .metrics["fid_known"]
        for b in (7, 50, 130)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-9)


def test_neighbours_of_features(known):
    fake, real = colours(100, 200), colours(100)
    settings = ("evaluation.metrics=[knn]", "evaluation.neighbour_features=features")
    assert evaluator(real, *known, *settings).measure(fake, {}).metrics == {
        "knn_fake_known": 1.0,
        "knn_real_known": 1.0,
        "knn_fake_majority_known": 1.0,
        "knn_real_majority_known": 1.0,
    }


def test_too_few_images_for_splits_are_reported(known):
    result = evaluator(colours(50), *known, "evaluation.metrics=[inception_score]").measure(colours(5), {})
    assert result.metrics == {} and "10 splits of 5" in result.unavailable["inception_score_known"]


@pytest.fixture
def tf32():
    """Allow TF32, as training in bf16 or TF32 does."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield backends
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def test_metrics_never_use_tf32(known, monkeypatch, tf32):
    inside = []
    real = MSSSIM.compute

    def compute(*arguments):
        inside.append([backend.allow_tf32 for backend in tf32])
        return real(*arguments)

    monkeypatch.setattr(MSSSIM, "compute", compute)
    evaluator(colours(8), *known, "evaluation.metrics=[ms_ssim]").measure(colours(8), {})
    assert inside == [[False, False]]
    assert all(backend.allow_tf32 for backend in tf32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: metrics are not compared with the CPU's")
def test_metrics_on_a_gpu_agree_with_the_cpus(known, tf32):
    fake, real = colours(200, shift=8), colours(200)
    on_cpu = evaluator(real, *known, "evaluation.metrics=[ms_ssim,fid,kid]")
    on_gpu = replace(on_cpu, device=torch.device("cuda"))
    here, there = (each.measure(fake, {}).metrics for each in (on_cpu, on_gpu))
    assert here.keys() >= {"ms_ssim", "fid_known", "kid_known"}
    assert here == pytest.approx(there, rel=1e-4)


def test_unknown_extractor_is_refused():
    for metrics in ("fid", "inception_score"):
        with pytest.raises(ConfigError, match=r"extractors=inception-v3: .*Did you mean 'inception-v3-compat'"):
            evaluator(colours(20), "evaluation.extractors=[inception-v3]", f"evaluation.metrics=[{metrics}]")


@pytest.mark.parametrize("soft", [False, True])
def test_fid_and_ms_ssim_by_expert(known, soft):
    """Three experts in random order make the real images themselves, one image, and noise."""
    real = colours(200)
    made = [real, torch.full((100, 3, 16, 16), 99, dtype=torch.uint8), colours(300, shift=60)]
    order = torch.randperm(600)
    expert = torch.repeat_interleave(torch.arange(3), torch.tensor([200, 100, 300]))[order]
    weights = torch.eye(3)[expert] * (0.4 if soft else 1) + (0.2 if soft else 0)
    metrics = (
        evaluator(real, *known, "evaluation.metrics=[fid,experts]").measure(torch.cat(made)[order], {}, weights).metrics
    )
    alone = [
        evaluator(real, *known, "evaluation.metrics=[fid]").measure(part, {}).metrics["fid_known"] for part in made
    ]
    assert metrics["fid_by_expert_known"] == pytest.approx(alone, abs=1e-6) and abs(alone[0]) < 1e-6 < alone[1]
    diverse, constant, noise = metrics["ms_ssim_by_expert"]
    assert constant == pytest.approx(1) and max(diverse, noise) < 0.5


def test_expert_without_samples_is_reported(known):
    weights = torch.eye(3)[torch.arange(60) % 2]
    result = evaluator(colours(60), *known, "evaluation.metrics=[fid,experts]").measure(colours(60), {}, weights)
    assert set(result.unavailable) == {"fid_by_expert_known", "ms_ssim_by_expert"}
    assert "fewer than two samples of expert 2" in result.unavailable["ms_ssim_by_expert"]


def test_missing_weights_are_reported_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv("MIXGAN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    inception.find_weights.cache_clear()
    result = evaluator(colours(20), "evaluation.download=false", "evaluation.metrics=[fid,ms_ssim]").measure(
        colours(20), {}
    )
    inception.find_weights.cache_clear()
    assert "fid" not in result.metrics and "ms_ssim" in result.metrics
    assert "evaluation.weights=FILE" in result.unavailable["fid"] and "MIXGAN_WEIGHTS" in result.unavailable["fid"]
    assert result.protocol["n_fake"] == 20


def test_file_without_weights_is_reported(tmp_path):
    (tmp_path / "inception.pth").write_bytes(b"junk")
    result = evaluator(
        colours(20), f"evaluation.weights={tmp_path / 'inception.pth'}", "evaluation.metrics=[fid]"
    ).measure(colours(20), {})
    assert "cannot be loaded" in result.unavailable["fid"]


def test_unequal_set_sizes_are_cut_to_the_smaller(known):
    """With 500 generated and 200 real samples of one distribution, chance must still be one half each."""
    result = evaluator(colours(200), *known, "evaluation.metrics=[knn]").measure(colours(500), {})
    assert result.metrics["knn_fake"] == pytest.approx(0.5, abs=0.08)
    assert result.metrics["knn_real"] == pytest.approx(0.5, abs=0.08)
    assert result.protocol["neighbour_test_n"] == 200


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_images_make_a_metric_unavailable(known, n):
    settings = (*known, "evaluation.metrics=[fid,inception_score,kid,prc,ms_ssim,knn]")
    result = evaluator(colours(n), *settings).measure(colours(n), {})
    assert {"precision_known", "recall_known", "inception_score_known"} <= result.unavailable.keys()
    assert not result.unavailable.keys() & result.metrics.keys()
    assert all(np.isfinite(value) for value in result.metrics.values())


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_values_of_a_metric_can_be_logged_as_json(known, monkeypatch, value):
    monkeypatch.setattr(MSSSIM, "compute", lambda *arguments: {"ms_ssim": value})
    result = evaluator(colours(8), *known, "evaluation.metrics=[ms_ssim]").measure(colours(8), {})
    assert json.dumps(result.metrics) == '{"ms_ssim": 0.5}'


def test_failed_download_is_reported(monkeypatch):
    monkeypatch.delenv("MIXGAN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", "/proc/nowhere")
    inception.find_weights.cache_clear()
    inception._download.cache_clear()
    result = evaluator(colours(20), "evaluation.metrics=[fid]").measure(colours(20), {})
    inception.find_weights.cache_clear()
    inception._download.cache_clear()
    assert "the download failed" in result.unavailable["fid"]


@pytest.fixture
def incomplete_weights():
    """The real Inception weights, up to the 768-d features; all later tensors are NaN."""
    return str(real_folder("MIXGAN_WEIGHTS", "inception-2015-12-05-to-768.pth"))


def test_incomplete_weights_never_become_a_number(incomplete_weights):
    settings = (f"evaluation.weights={incomplete_weights}", "evaluation.metrics=[fid,inception_score]")
    result = evaluator(colours(12), *settings).measure(colours(12), {})
    assert result.metrics == {}
    assert all("incomplete (NaN)" in reason for reason in result.unavailable.values())
    assert set(result.unavailable) == {"fid", "inception_score"}
    result = evaluator(colours(12), *settings, "evaluation.feature_layer=192").measure(colours(12), {})
    assert set(result.metrics) == {"fid_192", "fid_bias_192"} and set(result.unavailable) == {"inception_score"}


@pytest.mark.integ
@pytest.mark.parametrize("data", ["grey", "colour"])
def test_fid_and_kid_equal_the_fidelity_command(incomplete_weights, tmp_path, data):
    """Compare with the command of torch-fidelity on real images saved as PNG, with the real network."""
    if data == "grey":
        real_folder("MIXGAN_DATA", "FashionMNIST/raw")
        dataset = FashionMNIST(None, 32, False).load()
        fake, real = dataset.train.images_NCHW[:32], dataset.held_out.images_NCHW[:32]
    else:
        cifar = read_array(real_folder("MIXGAN_DATA", "cifar10/test.npz"), "images")
        images = torch.from_numpy(cifar[:64]).permute(0, 3, 1, 2)
        fake, real = images[:32], images[32:]
    settings = f"evaluation.weights={incomplete_weights}", "evaluation.feature_layer=768"
    ours = evaluator(real, *settings, "evaluation.metrics=[fid,kid]").measure(fake, {}).metrics
    itself = evaluator(real, *settings, "evaluation.metrics=[fid]").measure(real, {}).metrics
    assert abs(itself["fid_768"]) < 1e-3
    command = [
        sys.executable, "-c", "from torch_fidelity.fidelity import main; main()", "--fid", "--cpu", "--json",
        "--silent", "--no-cache", "--save-cpu-ram", "--feature-layer-fid", "768", "--feature-layer-kid", "768",
        "--kid", "--kid-subset-size", str(len(fake)), "--rng-seed", "2020",
        "--feature-extractor-weights-path", incomplete_weights,
        "--input1", folder_of(tmp_path / "fake", fake), "--input2", folder_of(tmp_path / "real", real),
    ]  # fmt: skip
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert ours["fid_768"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours["kid_768"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)

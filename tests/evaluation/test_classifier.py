"""The classifier that is trained on a data set and serves as an extractor."""

import logging

import numpy as np
import pytest
import torch
import torch_fidelity
from scipy.linalg import sqrtm

from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.datasets.mnist import Digits, FashionMNIST
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import classifier
from mixgan_cli.evaluation.classifier import ClassifierExtractor, Labelled, accuracy_of, load, weights_for
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.evaluation.reference import ReferenceSet
from tests.conftest import ALL, TINY, composed, real_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    dataset = Digits(16, labels=True).load()
    return Labelled(dataset.train, dataset.held_out)


@pytest.fixture
def path(digits, monkeypatch):
    monkeypatch.setattr(classifier, "EPOCHS", 12)
    return weights_for(digits, CPU)


def test_classifier_learns_the_digits(digits, path):
    images = digits.held_out.images_NCHW
    logits = load(path)(images.float() / 127.5 - 1)[1]
    share = (logits.argmax(dim=1) == digits.held_out.labels_N).double().mean().item()
    assert share > 0.93 and accuracy_of(path) == pytest.approx(share, abs=1e-4)


@pytest.mark.integ
def test_classifier_is_trained_once(digits, path, monkeypatch):
    monkeypatch.setattr(classifier, "train", lambda *arguments: pytest.fail("trained again"))
    assert weights_for(digits, CPU) == path


@pytest.mark.integ
def test_damaged_file_is_replaced(digits, path, monkeypatch, caplog):
    before = load(path).state_dict()
    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(logging.getLogger("mixgan"), "propagate", True)
    assert weights_for(digits, CPU) == path and "training it again" in caplog.text
    for name, value in load(path).state_dict().items():  # the same again: its training is seeded
        torch.testing.assert_close(value, before[name])
    assert not list((cache_dir() / "classifiers").glob(".*"))


@pytest.mark.integ
def test_other_labels_train_another_classifier(digits, path):
    shuffled = digits.train.labels_N.flip(0)
    other = digits._replace(train=type(digits.train)(digits.train.images_NCHW, shuffled, "digits"))
    assert weights_for(other, CPU) != path


def test_missing_labels_are_reported(digits):
    for labelled in (None, digits._replace(train=digits.train.without_labels())):
        with pytest.raises(Unavailable, match=r"data\.labels=true"):
            weights_for(labelled, CPU)


@pytest.mark.integ
def test_unwritable_cache_makes_metrics_unavailable(digits, monkeypatch):
    """On a full or read-only disk the metrics are unavailable, and it is trained once, not once per metric."""
    monkeypatch.setenv("MIXGAN_CACHE", "/proc/nowhere")
    monkeypatch.setattr(classifier, "EPOCHS", 1)
    trained, train = [], classifier.train
    monkeypatch.setattr(classifier, "train", lambda *arguments: trained.append(1) or train(*arguments))
    settings = "evaluation.extractors=[classifier]", "evaluation.metrics=[fid,inception_score,kid]"
    evaluation = composed(*settings).evaluation
    images = digits.held_out.images_NCHW
    result = Evaluator(evaluation, ReferenceSet(images, {}, labelled=digits), CPU).measure(images, {})
    assert set(result.unavailable) == {"fid_classifier", "classifier_score", "kid_classifier"}
    assert all("cannot be stored" in reason for reason in result.unavailable.values())
    assert len(trained) == 1


def grey(images):
    return images.expand(-1, 3, -1, -1)


def test_classifier_is_an_extractor(digits, path):
    """Grey images come as RGB in any size. The batch size does not matter."""
    extractor = ClassifierExtractor("classifier", ["logits", "features"], str(path))
    images = digits.held_out.images_NCHW[:20]
    logits, features = extractor(grey(images))
    expected = load(path)(images.float() / 127.5 - 1)
    torch.testing.assert_close((features, logits), expected)
    assert features.shape == (20, 128) and logits.shape == (20, 10)
    torch.testing.assert_close(extractor(grey(images[5:7]))[0], logits[5:7], atol=1e-5, rtol=1e-5)
    assert extractor(grey(images).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))[0].shape == (20, 10)


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.integ
def test_metrics_equal_torch_fidelity_and_the_formulas(digits, path, monkeypatch):
    real, fake = digits.held_out.images_NCHW, digits.train.images_NCHW[:200]
    fake = fake.roll(1, dims=3)
    evaluation = composed(
        "evaluation.extractors=[classifier]", "evaluation.metrics=[fid,inception_score,kid]", "evaluation.n_real=1000"
    ).evaluation
    result = Evaluator(evaluation, ReferenceSet(real, {}, labelled=digits), CPU).measure(fake, {})
    metrics, extractor = result.metrics, result.protocol["extractors"]["classifier"]
    assert 0.93 < extractor["accuracy"] == accuracy_of(path) and len(extractor["weights"]) == 16
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(grey(fake)), input2=Images(grey(real)), isc=True, fid=True, kid=True, kid_subset_size=200,
        feature_extractor="classifier", feature_extractor_weights_path=str(path), cuda=False, cache=False,
        verbose=False, isc_splits=10, rng_seed=evaluation.seed,
    )  # fmt: skip
    assert metrics["fid_classifier"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert metrics["kid_classifier"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert metrics["classifier_score"] == pytest.approx(theirs["inception_score_mean"], rel=1e-3)
    features = [load(path)(images.float() / 127.5 - 1)[0].detach().double().numpy() for images in (fake, real)]
    (a, b), (m, n) = ([np.cov(f, rowvar=False) for f in features], [f.mean(axis=0) for f in features])
    expected = (m - n) @ (m - n) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert metrics["fid_classifier"] == pytest.approx(expected, rel=1e-3)
    itself = Evaluator(evaluation, ReferenceSet(real, {}, labelled=digits), CPU).measure(real, {}).metrics
    assert abs(itself["fid_classifier"]) < 1e-3 and 5 < itself["classifier_score"] <= 10


def test_experts_are_compared_with_classes(mixgan, monkeypatch):
    monkeypatch.setattr(classifier, "EPOCHS", 1)
    settings = ["evaluation.extractors=[classifier]", "evaluation.metrics=[fid,classes,experts]"]
    more = ["evaluation.n_fake=100", "model.k=4"]
    metrics = mixgan("train", *TINY, *settings, *more).json["metrics"]
    table = np.array(metrics["expert_class"])
    assert table.shape == (4, 10) and table.sum() == pytest.approx(1)
    assert len(metrics["nmi_by_level"]) == len(metrics["purity_by_level"]) == 2  # a tree of depth 2
    assert metrics["nmi_by_level"][-1] == pytest.approx(metrics["nmi"]) and 0 <= metrics["nmi"] <= 1
    assert metrics["purity"] == pytest.approx(table.max(axis=1).sum())
    flat = mixgan("train", *TINY, *settings, *more, "model=madgan").json["metrics"]
    assert "nmi_by_level" not in flat and len(flat["fid_by_expert_classifier"]) == 4 == len(flat["ms_ssim_by_expert"])


def test_missing_classifier_is_reported_with_a_remedy(mixgan):
    results = mixgan("train", *TINY, "evaluation.metrics=[classes]").json
    assert results["metrics"] == {} and "classifier" in results["unavailable"]["nmi"]
    unlabelled = ["data.labels=false", "evaluation.extractors=[classifier]", "evaluation.metrics=[fid,inception_score]"]
    results = mixgan("train", *TINY, *unlabelled).json
    assert set(results["unavailable"]) == {"fid_classifier", "classifier_score"}
    assert "data.labels=true" in results["unavailable"]["fid_classifier"]


@pytest.mark.integ
@pytest.mark.skipif(not ALL, reason="`make test-all` trains the classifier on Fashion-MNIST for three minutes")
def test_on_the_real_fashion_mnist():
    dataset = FashionMNIST(str(real_folder("MIXGAN_DATA", "FashionMNIST/raw")), 32, labels=True).load()
    assert accuracy_of(weights_for(Labelled(dataset.train, dataset.held_out), CPU)) > 0.90

"""Published values against cells read by hand, and the rule of comparison against every other protocol."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from mixgan_cli.config.components import build
from mixgan_cli.config.compose import groups
from mixgan_cli.data.images import Preprocessing
from mixgan_cli.evaluation import inception
from mixgan_cli.evaluation.extractors import INCEPTION
from mixgan_cli.evaluation.protocol import protocol_of
from mixgan_cli.reporting.published import FOLDER, matches, obstacles, published_values
from tests.conftest import TINY, composed

SETS = ("mnist", "fashion_mnist", "celeba", "utzap50k", "flowers102", "cifar10", "stl10", "imagenet32",
        "ring_pacgan", "grid_pacgan", "stacked_mnist")  # fmt: skip
OF_HMOG = ("fid_hmog2019", "knn_real_hmog2019", "knn_fake_hmog2019")
READ_BY_HAND = [
    ("mnist", "FC", "knn_real_hmog2019", 0.7490, 0.0059),
    ("mnist", "MADGAN-32", "fid_hmog2019", 7.97, 0.34),
    ("mnist", "MEGAN-32", "knn_fake_hmog2019", 0.8623, 0.0317),
    ("mnist", "HME-L-5", "fid_hmog2019", 9.07, 0.44),
    ("fashion_mnist", "ME-128", "knn_real_hmog2019", 0.7584, 0.0243),
    ("fashion_mnist", "HME-8", "fid_hmog2019", 25.51, 2.41),
    ("celeba", "MGAN-32", "knn_fake_hmog2019", 0.9997, 0.0002),
    ("celeba", "ME-L-8", "fid_hmog2019", 11.99, 0.27),
    ("utzap50k", "MADGAN-32", "fid_hmog2019", 112.34, 24.69),
    ("utzap50k", "HME-5", "knn_real_hmog2019", 0.9164, 0.0083),
    ("flowers102", "MEGAN-8", "fid_hmog2019", 104.04, 2.75),
    ("flowers102", "ME-256", "fid_hmog2019", 137.08, 6.46),
    ("flowers102", "MGAN-32", "knn_fake_hmog2019", 0.9934, 0.0012),
    ("cifar10", "Real data", "inception_score", 11.24, 0.16),
    ("cifar10", "MGGAN", "inception_score", 8.23, None),
    ("cifar10", "D2GAN", "inception_score", 7.15, 0.07),
    ("cifar10", "BEGAN", "inception_score", 5.62, None),
    ("stl10", "DFM", "inception_score", 8.51, 0.13),
    ("imagenet32", "DCGAN", "inception_score", 7.89, None),
    ("cifar10", "MGAN", "fid", 26.7, None),
    ("celeba", "MEGAN", "ms_ssim", 0.2470, None),
    ("cifar10", "R3GAN (class-conditional)", "fid", 1.96, None),
    ("imagenet32", "R3GAN (class-conditional)", "recall", 0.63, None),
    ("cifar10", "InfoMax-GAN", "fid", 15.12, 0.10),
    ("stl10", "SNGAN", "inception_score", 8.04, 0.07),
    ("cifar10", "SNGAN CNN", "fid", 17.81, None),
    ("cifar10", "SN-DCGAN", "inception_score", 7.5, None),
    ("ring_pacgan", "PacGAN2", "high_quality", 0.956, 0.02),
    ("grid_pacgan", "PacGAN4", "reverse_kl", 0.04, 0.01),
    ("grid_pacgan", "VEEGAN", "high_quality", 0.4, None),
    ("stacked_mnist", "PacDCGAN3; D = ½ G", "stacked_kl", 0.90, 0.04),
    ("stacked_mnist", "Unrolled GAN, 5 steps; D = ¼ G", "stacked_modes", 236.4, 63.30),
    ("stacked_mnist", "PacDCGAN4", "stacked_kl", 0.07, 0.005),
    ("stacked_mnist", "EnGAN", "stacked_kl", 0.0313, None),
    ("stacked_mnist", "AdvDSM", "stacked_kl", 1.49, None),
]


def found(data, metric, **of_model):
    """Return the only published value of a metric with these attributes."""
    (entry,) = [
        entry
        for entry in published_values(data)
        if entry.metric == metric and all(getattr(entry, key) == value for key, value in of_model.items())
    ]
    return entry


@pytest.mark.parametrize(("data", "system", "metric", "value", "sd"), READ_BY_HAND)
def test_cells_read_by_hand(data, system, metric, value, sd):
    entry = found(data, metric, system=system)
    assert (entry.value, entry.sd) == (value, sd)


def test_printed_values_keep_their_digits():
    assert found("utzap50k", "fid_hmog2019", system="MADGAN-4").printed == "123.40 ± 10.00"
    assert found("celeba", "ms_ssim", system="MEGAN").printed == "0.2470"


def test_all_published_tables_are_complete():
    """29 systems of the thesis with three figures for each of five sets; MGGAN's table 1 without its blanks; others."""
    counts = {data: Counter(entry.source.name for entry in published_values(data)) for data in SETS}
    of_hmog = {"hmog2019": 29 * 3}
    assert counts == {
        **dict.fromkeys(("mnist", "fashion_mnist", "utzap50k", "flowers102"), of_hmog),
        "celeba": of_hmog | {"megan2018": 1, "mimicry2020": 1},
        "cifar10": {
            "mggan2017": 1,
            "mggan2017_others": 11,
            "mggan2018": 2,
            "megan2018": 1,
            "r3gan2024": 3,
            "mimicry2020": 10,
            "sngan2018": 2,
            "gan_collections": 12,
            "chainer_gan_lib": 2,
        },
        "stl10": {"mggan2017": 1, "mggan2017_others": 4, "mimicry2020": 4},
        "imagenet32": {"mggan2017": 1, "mggan2017_others": 4, "r3gan2024": 2, "mimicry2020": 2},
        "ring_pacgan": {"pacgan2018": 5 * 3, "veegan2017": 4 * 2},
        "grid_pacgan": {"pacgan2018": 5 * 3, "veegan2017": 4 * 2},
        "stacked_mnist": {
            "veegan2017": 4 * 2,
            "pacgan2018_veegan": 4 * 2,
            "pacgan2018_unrolled": 8 * 2 * 2,
            "r3gan2024_stacked": 10 * 2,
            "engan2019": 2 * 2,
        },
    }
    lines = sum(len(list(csv.DictReader(path.open()))) for path in FOLDER.glob("*.csv"))
    assert lines == sum(counter.total() for counter in counts.values())  # all data sets are covered


def test_values_are_unique_and_possible():
    every = [entry for data in SETS for entry in published_values(data)]
    assert len({(entry.source.name, entry.data, entry.system, entry.metric) for entry in every}) == len(every)
    models, experts = ({None, *groups()[group]} for group in ("model", "model/experts"))
    for entry in every:
        assert entry.value > (entry.sd or 0) >= 0
        assert not entry.metric.startswith("knn") or entry.value <= 1
        assert entry.model in models and entry.experts in experts
        known = entry.source.protocol_of(entry.metric, entry.data), entry.source.obstacles.get(entry.metric)
        assert any(known), f"{entry.source.name}: no protocol and no obstacle for {entry.metric}"


def test_systems_are_mapped_to_models():
    """The thesis's names: a depth d is 2^d leaves; linear ones have an L."""
    stands = {entry.system: (entry.model, entry.experts, entry.k) for entry in published_values("utzap50k")}
    assert stands.items() >= {
        "HME-5": ("hmog", "constant", 32), "HME-8": ("hmog", "constant", 256), "HME-L-3": ("hmog", "linear", 8),
        "ME-256": ("mog", "constant", 256), "ME-L-8": ("mog", "linear", 8), "FC": ("gan", None, 1),
        "MGAN-16": ("mggan", None, 16), "MADGAN-4": ("madgan", None, 4), "MEGAN-32": ("megan_hidden", None, 32),
    }.items()  # fmt: skip
    assert {entry.size for data in ("mnist", "fashion_mnist") for entry in published_values(data)} == {32}
    assert {entry.size for data in ("celeba", "utzap50k", "flowers102") for entry in published_values(data)} == {64}
    sizes = {entry.system: entry.size for entry in published_values("stl10") if "mggan" in entry.source.name}
    assert sizes == {"MGGAN": 48, "Real data": 48, "DFM": 48, "DCGAN": 32, "D2GAN": 32}


@pytest.mark.parametrize(
    ("preset", "source", "system", "of_another_protocol"),
    [
        ("sngan_cifar10_mimicry", "mimicry2020", "SNGAN", set()),
        ("sngan_cifar10_collections", "gan_collections", "SNGAN ResNet", {"inception_score"}),
        ("sngan_cifar10", "sngan2018", "SNGAN ResNet", {"fid"}),
    ],
)
def test_sngan_presets_are_measured_as_published(preset, source, system, of_another_protocol):
    """With 50,000 images; the paper's own value is of fewer, and no value is that of another network."""
    run = composed(f"experiment={preset}")
    theirs = [entry for entry in published_values("cifar10") if (entry.source.name, entry.system) == (source, system)]
    assert theirs and all(matches(entry, run.model.model_dump()) for entry in theirs)
    protocol = measured(run, "cifar10")
    assert {entry.metric for entry in theirs if obstacles(entry, protocol, 32)} == of_another_protocol


@pytest.mark.parametrize(("data", "m"), [("ring", 1), ("grid", 3)])
def test_pacgan_presets_are_measured_as_published(data, m):
    """The value of as many samples in a pack, and of no other number, for points that lie as theirs do."""
    run = composed(f"experiment=pacgan_{data}", f"model.pack={m}")
    theirs = [entry for entry in published_values(f"{data}_pacgan") if matches(entry, run.model.model_dump())]
    assert {entry.system for entry in theirs} == {"GAN" if m == 1 else f"PacGAN{m}"} and len(theirs) == 3
    protocol = protocol_of(run.evaluation, 2_500, 2_500, {"ema": False}, build(run.data).load().describe())
    assert not any(obstacles(entry, protocol, None) for entry in theirs)
    elsewhere = protocol | {"reals": {"distribution": "Ring(modes=8, radius=2.0, std=0.02)"}}
    for other in (elsewhere, protocol | {"n_fake": 10_000}):
        assert all(obstacles(entry, other, None) for entry in theirs)


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ({"n_fake": 26_000}, "n_fake: 26,000 here, 25,600 published"),
        ({"logarithm": "decimal"}, "stacked.logarithm: decimal here, natural published"),
        ({"classifier": "mixgan 1, 28 px"}, "stacked.classifier: mixgan 1, 28 px here, Keras CNN, 28 px published"),
        ({"target": "digits"}, "stacked.target: digits here, 1/1000 published"),
        ({"size": 32}, "size: 32 here, 28 published"),
    ],
)
def test_variants_of_stacked_mnist_are_not_comparable(ours, reason):
    theirs = found("stacked_mnist", "stacked_kl", system="PacDCGAN2; D = ½ G")
    notes = {"target": "1/1000", "logarithm": "natural", "classifier": "Keras CNN, 28 px"}
    assert obstacles(theirs, {"n_fake": 25_600, "ema": False, "stacked": notes}, 28) == []
    protocol = {"n_fake": ours.get("n_fake", 25_600), "ema": False, "stacked": notes | ours}
    assert obstacles(theirs, protocol, ours.get("size", 28)) == [reason]


def test_class_conditional_values_match_no_model():
    entries = [entry for data in SETS for entry in published_values(data) if "class-conditional" in entry.system]
    assert len(entries) == 7 and all(entry.model is None for entry in entries)
    run = composed("experiment=r3gan_cifar10")
    assert not [entry for entry in published_values("cifar10") if matches(entry, run.model.model_dump())]


PRESETS = [  # each with the data set that it is used with
    (name, data)
    for name in groups()["experiment"]
    if name.startswith(("hmog2019_", "mggan_", "megan_")) and name != "mggan_ring"
    for data in (SETS[:5] if name.startswith("hmog2019") else [name.partition("_")[2]])
]


def measured(run, data):
    """A protocol as this run's results.json would have it, were the set's images here."""
    sums = {
        "hmog2019": inception.TORCHVISION_URL.rpartition("-")[2],
        INCEPTION: inception.HASH_PREFIX,
        "classifier": "0" * 16,
    }
    extractors = {
        name: {"name": name, "weights": sums[name].removesuffix(".pth")} for name in run.evaluation.extractors
    }
    n_real = run.evaluation.n_real or run.data.get("held_out", 10_000)
    n_fake = run.evaluation.n_fake or n_real
    notes = {"extractors": extractors, "ema": run.evaluation.ema}
    n = {"mnist": 60_000, "fashion_mnist": 60_000, "celeba": 202_599 - 10_000, "cifar10": 50_000}.get(data)
    words = f"CelebA, {Preprocessing(64, run.data['crop'], 3)}" if data == "celeba" else "as it is prepared"
    parts = {"train": {"n": n}, "held_out": {"n": n_real, "preprocessing": words}}
    reals = {**parts, "split": run.evaluation.split}
    return json.loads(json.dumps(protocol_of(run.evaluation, n_fake, n_real, notes, reals)))


def test_every_published_grid_has_its_experiments():
    grid = {f"hmog2019_{model}" for model in ("hmog", "mog", "madgan", "mggan", "megan")}
    others = {*(f"mggan_{data}" for data in SETS[5:8]), "megan_cifar10", "megan_celeba"}
    assert {preset for preset, _ in PRESETS} == grid | others


@pytest.mark.parametrize(("preset", "data"), PRESETS)
def test_an_experiment_is_comparable_with_published_values(preset, data):
    """Every published K has values; those computed in an unknown way are not comparable."""
    run = composed(f"experiment={preset}", f"data={data}", *([] if "mnist" in data else ["data.root=somewhere"]))
    of_hmog = preset.startswith("hmog2019")
    assert not of_hmog or (run.training.batch == 128 and run.training.ema_half_life_nimg == 0)
    protocol, size = measured(run, data), build(run.data).shape[-1]
    for k in (4, 8, 16, 32) if of_hmog else (10,):
        theirs = [entry for entry in published_values(data) if matches(entry, run.model.model_dump() | {"k": k})]
        assert theirs and {entry.source.name[:5] for entry in theirs} == {preset[:5]}
        assert not of_hmog or tuple(entry.metric for entry in theirs) == OF_HMOG
        refused = {entry.metric for entry in theirs if obstacles(entry, protocol, size)}
        assert refused == {"mggan_cifar10": {"fid"}, "megan_celeba": {"ms_ssim"}}.get(preset, set())


def other(protocol, key, value):
    """A copy of a protocol that says something else at a.b.c; None: nothing."""
    copy = json.loads(json.dumps(protocol))
    *steps, last = key.split(".")
    group = copy
    for step in steps:
        group = group[step]
    group[last] = value
    if value is None:
        del group[last]
    return copy


ON_CELEBA = [
    ("n_fake", 500, "n_fake: 500 here, 10,000 published"),
    ("n_real", 2_000, "n_real: 2,000 here, 10,000 published"),
    ("precision", "bf16", "precision: bf16 here, float32 published"),
    ("ema", True, "ema: true here, false published"),
    ("ema", None, "ema: not stated here, false published"),
    ("extractors.hmog2019.weights", "f" * 16, "extractors.hmog2019.weights: ffffffff here, 0cc3c7bd published"),
    ("extractors", None, "extractors.hmog2019.weights: not stated here, 0cc3c7bd published"),
    ("reals.split", "train", "reals.split: train here, held_out published"),
    ("reals.train.n", 9_000, "reals.train.n: 9,000 here, 192,599 published"),
    (
        "reals.held_out.preprocessing",
        "CelebA, centre crop 160 px, bilinear to 64 px",
        "reals.held_out.preprocessing: CelebA, centre crop 160 px, bilinear to 64 px here, "
        "CelebA, centre crop 148 px, bilinear to 64 px published",
    ),
]


@pytest.mark.parametrize(("key", "value", "line"), ON_CELEBA)
def test_another_protocol_is_an_obstacle(key, value, line):
    protocol = measured(composed("experiment=hmog2019_hmog", "data=celeba", "data.root=somewhere"), "celeba")
    for metric in OF_HMOG:
        entry = found("celeba", metric, system="HME-L-5")
        assert obstacles(entry, protocol, 64) == []
        assert obstacles(entry, other(protocol, key, value), 64) == [line]
    assert obstacles(entry, protocol, 32) == ["size: 32 here, 64 published"]


def test_neighbours_matter_only_for_the_knn_test():
    protocol = measured(composed("experiment=hmog2019_hmog", "data=mnist"), "mnist")
    for key, value in {"neighbours": 3, "neighbour_features": "pixels"}.items():
        differing = other(protocol, key, value)
        lines = {metric: obstacles(found("mnist", metric, system="FC"), differing, 32) for metric in OF_HMOG}
        assert lines["fid_hmog2019"] == []
        assert all(line.startswith(f"{key}: {value} here") for metric in OF_HMOG[1:] for line in lines[metric])
        assert len(lines["knn_real_hmog2019"]) == len(lines["knn_fake_hmog2019"]) == 1


def test_what_an_inception_score_depends_on():
    protocol = measured(composed("experiment=mggan_cifar10", "data.root=somewhere"), "cifar10")
    entry = found("cifar10", "inception_score", system="MGGAN")
    irrelevant = other(other(protocol, "n_real", 7), "neighbours", 3)
    assert obstacles(entry, irrelevant, 32) == []
    assert obstacles(entry, other(protocol, "splits", 5), 32) == ["splits: 5 here, 10 published"]
    assert obstacles(entry, other(protocol, "n_fake", 10_000), 32) == ["n_fake: 10,000 here, 50,000 published"]
    own = obstacles(entry, other(protocol, f"extractors.{INCEPTION}.weights", "ab" * 8), 32)
    assert own == [f"extractors.{INCEPTION}.weights: abababab here, 6726825d published"]


def test_unknown_protocols_are_never_comparable():
    protocol = measured(composed("experiment=mggan_stl10", "data.root=somewhere"), "stl10")
    dcgan = found("stl10", "inception_score", system="DCGAN")
    assert obstacles(dcgan, protocol, 32) and obstacles(dcgan, protocol, 48)[0] == "size: 48 here, 32 published"
    assert "number of pairs is not known" in obstacles(found("celeba", "ms_ssim", system="MEGAN"), {}, 64)[-2]


def test_protocol_keys_are_those_of_a_real_run(mixgan):
    """Of what the sources name only the extractors are missing where there are no weights."""
    run_dir = mixgan("train", *TINY).json["run_dir"]
    protocol = json.loads(Path(run_dir, "results.json").read_text())["protocol"]
    for metric in OF_HMOG:
        lines = obstacles(found("celeba", metric, system="HME-L-3"), protocol, 8)
        assert lines[:3] == [
            "size: 8 here, 64 published",
            "n_fake: 16 here, 10,000 published",
            "n_real: 16 here, 10,000 published",
        ]
        assert [line for line in lines if "not stated" in line] == [
            "extractors.hmog2019.weights: not stated here, 0cc3c7bd published"
        ]
    lines = obstacles(found("cifar10", "inception_score", system="MGGAN"), protocol, 8)
    assert [line.partition(":")[0] for line in lines if "not stated" in line] == [f"extractors.{INCEPTION}.weights"]


def test_a_model_with_another_part_does_not_match():
    """Nobody has published these, though the run is still called hmog."""
    hmog = found("mnist", "fid_hmog2019", system="HME-L-3")
    constant = found("mnist", "fid_hmog2019", system="HME-5")

    def run(*overrides):
        return composed("data=mnist", "model=hmog", *overrides).model.model_dump()

    assert matches(hmog, run("model.k=8")) and not matches(constant, run("model.k=32"))
    assert matches(constant, run("model.k=32", "model/experts=constant"))
    assert matches(found("mnist", "fid_hmog2019", system="FC"), run("model=gan"))
    assert not matches(hmog, run("model.k=16"))
    for others in (["model/gate=softmax"], ["model/head=classifier", "model.beta=0.1"], ["model/experts=dense"]):
        assert not matches(hmog, run("model.k=8", *others))
    assert not any(matches(entry, {}) for data in SETS for entry in published_values(data))

"""The published figures against cells read by hand, and the rule against every kind of other protocol."""

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
from mixgan_cli.reporting.published import FOLDER, figures, matches, obstacles
from tests.conftest import TINY, composed

SETS = ("mnist", "fashion_mnist", "celeba", "utzap50k", "flowers102", "cifar10", "stl10", "imagenet32")
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
]


def found(data, metric, **of_model):
    """The only figure of a metric that is of this."""
    (figure,) = [
        figure
        for figure in figures(data)
        if figure.metric == metric and all(getattr(figure, key) == value for key, value in of_model.items())
    ]
    return figure


@pytest.mark.parametrize(("data", "system", "metric", "value", "sd"), READ_BY_HAND)
def test_cells_read_by_hand(data, system, metric, value, sd):
    figure = found(data, metric, system=system)
    assert (figure.value, figure.sd) == (value, sd)


def test_a_figure_is_told_as_it_is_printed():
    assert found("utzap50k", "fid_hmog2019", system="MADGAN-4").printed == "123.40 ± 10.00"
    assert found("celeba", "ms_ssim", system="MEGAN").printed == "0.2470"


def test_all_tables_are_there_in_full():
    """29 systems of the thesis with three figures for each of five sets; table 1 of MGGAN without its blanks."""
    counts = {data: Counter(figure.source.name for figure in figures(data)) for data in SETS}
    of_hmog = {"hmog2019": 29 * 3}
    assert counts == {
        **dict.fromkeys(("mnist", "fashion_mnist", "utzap50k", "flowers102"), of_hmog),
        "celeba": of_hmog | {"megan2018": 1},
        "cifar10": {"mggan2017": 1, "mggan2017_others": 11, "mggan2018": 2, "megan2018": 1},
        "stl10": {"mggan2017": 1, "mggan2017_others": 4},
        "imagenet32": {"mggan2017": 1, "mggan2017_others": 4},
    }
    lines = sum(len(list(csv.DictReader(path.open()))) for path in FOLDER.glob("*.csv"))
    assert lines == sum(counter.total() for counter in counts.values())  # none is of another set


def test_no_figure_is_there_twice_and_all_are_possible():
    every = [figure for data in SETS for figure in figures(data)]
    assert len({(figure.source.name, figure.data, figure.system, figure.metric) for figure in every}) == len(every)
    models, experts = ({None, *groups()[group]} for group in ("model", "model/experts"))
    for figure in every:
        assert figure.value > (figure.sd or 0) >= 0
        assert not figure.metric.startswith("knn") or figure.value <= 1
        assert figure.model in models and figure.experts in experts
        known = figure.source.protocol_of(figure.metric, figure.data), figure.source.obstacles.get(figure.metric)
        assert any(known), f"{figure.source.name}: nothing is said of {figure.metric}"


def test_what_stands_for_which_model():
    """The thesis's names: a depth d is 2^d leaves; linear ones have an L."""
    stands = {figure.system: (figure.model, figure.experts, figure.k) for figure in figures("utzap50k")}
    assert stands.items() >= {
        "HME-5": ("hmog", "constant", 32), "HME-8": ("hmog", "constant", 256), "HME-L-3": ("hmog", "linear", 8),
        "ME-256": ("mog", "constant", 256), "ME-L-8": ("mog", "linear", 8), "FC": ("gan", None, 1),
        "MGAN-16": ("mggan", None, 16), "MADGAN-4": ("madgan", None, 4), "MEGAN-32": ("megan_hidden", None, 32),
    }.items()  # fmt: skip
    assert {figure.size for data in ("mnist", "fashion_mnist") for figure in figures(data)} == {32}
    assert {figure.size for data in ("celeba", "utzap50k", "flowers102") for figure in figures(data)} == {64}
    sizes = {figure.system: figure.size for figure in figures("stl10")}
    assert sizes == {"MGGAN": 48, "Real data": 48, "DFM": 48, "DCGAN": 32, "D2GAN": 32}


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


def test_every_published_grid_has_its_presets():
    grid = {f"hmog2019_{model}" for model in ("hmog", "mog", "madgan", "mggan", "megan")}
    others = {*(f"mggan_{data}" for data in SETS[5:]), "megan_cifar10", "megan_celeba"}
    assert {preset for preset, _ in PRESETS} == grid | others


@pytest.mark.parametrize(("preset", "data"), PRESETS)
def test_a_preset_has_its_figures_and_may_be_set_beside_them(preset, data):
    """Every published run of K experts; but what is computed in a way that is not known compares with nothing."""
    run = composed(f"experiment={preset}", f"data={data}", *([] if "mnist" in data else ["data.root=somewhere"]))
    of_hmog = preset.startswith("hmog2019")
    assert not of_hmog or (run.training.batch == 128 and run.training.ema_half_life_nimg == 0)
    protocol, size = measured(run, data), build(run.data).shape[-1]
    for k in (4, 8, 16, 32) if of_hmog else (10,):
        theirs = [figure for figure in figures(data) if matches(figure, run.model.model_dump() | {"k": k})]
        assert theirs and {figure.source.name[:5] for figure in theirs} == {preset[:5]}
        assert not of_hmog or tuple(figure.metric for figure in theirs) == OF_HMOG
        refused = {figure.metric for figure in theirs if obstacles(figure, protocol, size)}
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
    ("n_fake", 500, "n_fake: 500 here, 10,000 there"),
    ("n_real", 2_000, "n_real: 2,000 here, 10,000 there"),
    ("precision", "bf16", "precision: bf16 here, float32 there"),
    ("ema", True, "ema: true here, false there"),
    ("ema", None, "ema: not told here, false there"),
    ("extractors.hmog2019.weights", "f" * 16, "extractors.hmog2019.weights: ffffffff here, 0cc3c7bd there"),
    ("extractors", None, "extractors.hmog2019.weights: not told here, 0cc3c7bd there"),
    ("reals.split", "train", "reals.split: train here, held_out there"),
    ("reals.train.n", 9_000, "reals.train.n: 9,000 here, 192,599 there"),
    (
        "reals.held_out.preprocessing",
        "CelebA, centre crop 160 px, bilinear to 64 px",
        "reals.held_out.preprocessing: CelebA, centre crop 160 px, bilinear to 64 px here, "
        "CelebA, centre crop 148 px, bilinear to 64 px there",
    ),
]


@pytest.mark.parametrize(("key", "value", "line"), ON_CELEBA)
def test_another_protocol_is_an_obstacle(key, value, line):
    protocol = measured(composed("experiment=hmog2019_hmog", "data=celeba", "data.root=somewhere"), "celeba")
    for metric in OF_HMOG:
        figure = found("celeba", metric, system="HME-L-5")
        assert obstacles(figure, protocol, 64) == []
        assert obstacles(figure, other(protocol, key, value), 64) == [line]
    assert obstacles(figure, protocol, 32) == ["size: 32 here, 64 there"]


def test_neighbours_decide_the_neighbours_test_alone():
    protocol = measured(composed("experiment=hmog2019_hmog", "data=mnist"), "mnist")
    for key, value in {"neighbours": 3, "neighbour_features": "pixels"}.items():
        differing = other(protocol, key, value)
        lines = {metric: obstacles(found("mnist", metric, system="FC"), differing, 32) for metric in OF_HMOG}
        assert lines["fid_hmog2019"] == []
        assert all(line.startswith(f"{key}: {value} here") for metric in OF_HMOG[1:] for line in lines[metric])
        assert len(lines["knn_real_hmog2019"]) == len(lines["knn_fake_hmog2019"]) == 1


def test_what_decides_an_inception_score():
    protocol = measured(composed("experiment=mggan_cifar10", "data.root=somewhere"), "cifar10")
    figure = found("cifar10", "inception_score", system="MGGAN")
    irrelevant = other(other(protocol, "n_real", 7), "neighbours", 3)
    assert obstacles(figure, irrelevant, 32) == []
    assert obstacles(figure, other(protocol, "splits", 5), 32) == ["splits: 5 here, 10 there"]
    assert obstacles(figure, other(protocol, "n_fake", 10_000), 32) == ["n_fake: 10,000 here, 50,000 there"]
    own = obstacles(figure, other(protocol, f"extractors.{INCEPTION}.weights", "ab" * 8), 32)
    assert own == [f"extractors.{INCEPTION}.weights: abababab here, 6726825d there"]


def test_what_is_not_known_compares_with_nothing():
    protocol = measured(composed("experiment=mggan_stl10", "data.root=somewhere"), "stl10")
    dcgan = found("stl10", "inception_score", system="DCGAN")
    assert obstacles(dcgan, protocol, 32) and obstacles(dcgan, protocol, 48)[0] == "size: 48 here, 32 there"
    assert "pairs is not known" in obstacles(found("celeba", "ms_ssim", system="MEGAN"), {}, 64)[-2]


def test_the_keys_are_those_of_a_real_run(mixgan):
    """Of what the sources name only the extractors are missing where there are no weights."""
    run_dir = mixgan("train", *TINY).json["run_dir"]
    protocol = json.loads(Path(run_dir, "results.json").read_text())["protocol"]
    for metric in OF_HMOG:
        lines = obstacles(found("celeba", metric, system="HME-L-3"), protocol, 8)
        assert lines[:3] == ["size: 8 here, 64 there", "n_fake: 16 here, 10,000 there", "n_real: 16 here, 10,000 there"]
        assert [line for line in lines if "not told" in line] == [
            "extractors.hmog2019.weights: not told here, 0cc3c7bd there"
        ]
    lines = obstacles(found("cifar10", "inception_score", system="MGGAN"), protocol, 8)
    assert [line.partition(":")[0] for line in lines if "not told" in line] == [f"extractors.{INCEPTION}.weights"]


def test_a_model_with_another_part_is_not_theirs():
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
    assert not any(matches(figure, {}) for data in SETS for figure in figures(data))

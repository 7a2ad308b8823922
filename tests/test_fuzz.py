"""Whatever overrides it is given, the program runs, or says in one message what is wrong; it shows no traceback.

Most are tried up to the checked configuration, some to the end of the run. Each commit tries the same ones;
`make test-all` tries ten times as many. `FUZZ_EXAMPLES=2000` tries others in each test.
"""

import os
import re
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf

from mixgan_cli.commands import train
from mixgan_cli.config.compose import groups, known_keys
from mixgan_cli.data import locate
from mixgan_cli.errors import UserError
from mixgan_cli.runs import open_run
from tests.conftest import ALL, TINY, composition

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
TIMES = 10 if ALL else 1


def fuzzed(examples):
    """TIMES the examples, always the same; or FUZZ_EXAMPLES of them, each time others."""
    return settings(
        max_examples=EXAMPLES or TIMES * examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# Values: such as there might be, and such as there are not

PLAUSIBLE = {
    bool: st.sampled_from(["true", "false"]),
    int: st.integers(0, 12).map(str) | st.sampled_from([16, 32, 64, 100, 128, 2**20, 2**31, 2**40, 2**63]).map(str),
    float: st.sampled_from([0.0, 1e-8, 1e-4, 0.5, 0.9, 1.0, 2.5, 1e6, 1e30]).map(str),
    str: st.sampled_from(
        ["none", "all", "auto", "batch", "layer", "uniform", "per_expert", "k", "host", "disk", "bf16"]
    ),
    list: st.sampled_from(["[]", "[1,2]", "[0.0,0.9]", "[0.5,1.0]", "[ms_ssim]", "[knn,fid]", "[pixels]"]),
    type(None): st.sampled_from(["1", "32", "0.5", "[]", "some/where"]),
}
"""By type, as text."""
NUMBERS = (
    st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(
        ["-0", "1_000", "007", "0x10", "1e400", "-" + "9" * 30, "9" * 5000, "0x" + "f" * 5000, "9" * 400 + ".0"]
    )
)
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "???", "[]", "{}", "ä✓", "a b", "'", '"', "\\", "\0", "\n", "#", "%s", "../x", "/", "~", "x" * 5000,
     "{a:", "*", "a,b", "range(2)", "choice(1,2)", "choice(1", "glob(*)", "sort(2,1)", "int(3.5)", "tag(a,1)"]
)  # fmt: skip
INTERPOLATIONS = st.sampled_from(
    ["seed", "model", "nothing", "model.k", ".k", "..k", "paths", "", "training.nimg", "oc.env:HOME", "oc.env:NOTHING",
     "now:%Y", "hydra:runtime.cwd", "oc.dict.keys:model", "oc.decode:'['", "oc.create:{a: 1}", "no:such"]
).map("${{{}}}".format)  # fmt: skip


def quoted(text):
    """A string as Hydra quotes it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def within(values):
    """Lists and dicts of values."""
    lists = st.lists(values, max_size=3).map(lambda some: f"[{','.join(some)}]")
    pairs = st.dictionaries(st.sampled_from(["a", "k", "size", "_target_", "1", "a b"]), values, max_size=3)
    return lists | pairs.map(lambda some: "{" + ",".join(f"{key}: {value}" for key, value in some.items()) + "}")


SCALARS = st.one_of(NUMBERS, TEXTS, INTERPOLATIONS, TEXTS.map(quoted), *PLAUSIBLE.values())
ODD = st.recursive(SCALARS, within, max_leaves=4)
CLASSES = st.sampled_from(
    ["mixgan_cli.models.NoGate", "mixgan_cli.models.TreeGate", "mixgan_cli.models.ScoreHead",
     "mixgan_cli.models.LinearExperts", "mixgan_cli.models.TFPaddedDCGAN", "mixgan_cli.data.Ring",
     "mixgan_cli.data.packed.Packed", "mixgan_cli.objectives.NoPenalty", "mixgan_cli.runtime.io.write_text",
     "mixgan_cli.objectives.Hinge", "mixgan_cli.data", "builtins.dict", "builtins.len", "no.such.Class"]
)  # fmt: skip


# Overrides

HYDRAS = st.sampled_from(["hydra.run.dir", "hydra.verbose", "hydra.job.name", "hydra.mode", "hydra/launcher"])


def defaults(config):
    """Every key that is no group, with its value where nothing is overridden."""
    composed = composition(of=config)
    values = {key: OmegaConf.select(composed, key) for key in known_keys(config)}
    return {key: value for key, value in values.items() if not isinstance(value, DictConfig)}


@st.composite
def plausible(draw, values):
    """A key with a value of its type."""
    key = draw(st.sampled_from(list(values)))
    kind = list if isinstance(values[key], ListConfig) else type(values[key])
    return f"{key}={draw(PLAUSIBLE[kind])}"


def overrides(config, *rooms):
    """Lists of overrides of a command, by the name of its configuration and the groups it has. Composing takes time."""
    known, values = known_keys(config), defaults(config)
    choices = [f"{group}={choice}" for group, some in groups().items() for choice in some if group.startswith(rooms)]
    real = st.sampled_from(known)
    wrong = real.map(lambda key: key + "s") | real.map(lambda key: key[:-1]) | real.map("{}.deeper".format)
    wrong |= st.text("abk._/@:-~+", min_size=1, max_size=8) | HYDRAS
    parts = [key for key in known if key.endswith("._target_")] or ["data._target_"]
    likely = plausible(values) | plausible(values) | st.sampled_from(choices)
    unlikely = (
        st.builds("{}{}={}".format, st.sampled_from(["", "+", "++"]), real | wrong, ODD)
        | st.builds("{}={}".format, real, ODD)
        | st.builds("~{}{}".format, real | wrong, st.just("") | ODD.map("={}".format))
        | st.builds("{}={}".format, st.sampled_from(list(groups())), ODD)
        | st.builds("{}={}".format, st.sampled_from(parts), CLASSES)
        | st.text(max_size=10)
        | st.sampled_from(["-m", "--multirun", "-x", "--", "-"])
    )
    return st.lists(likely, min_size=1, max_size=4) | st.lists(likely | unlikely, min_size=1, max_size=3)


# What is asked of the program


def short(run):
    """Whether a run takes a second or two."""
    training, evaluation = run.training, run.evaluation
    return (
        training.nimg <= 256
        and max(training.batch, training.fakes or 0) <= 128
        and min(training.report_nimg, training.checkpoint_nimg, training.sample_nimg or 8) >= 8
        and (training.evaluate_nimg or 64) >= 64
        and run.model.k <= 16
        and run.model.latent.size <= 256
        and run.objective.d_steps <= 8
        and max(evaluation.n_fake, evaluation.n_real) <= 256
        and evaluation.seeds <= 2
    )


def open_if_short(run):
    """Open the run's folder, or say that this is no test for it: what can be refused has been refused before."""
    if not short(run):
        raise UserError("a long run")
    return open_run(run)


def open_none(run):
    """Go no further than a run that could begin."""
    raise UserError("a good configuration")


def too_many(*arguments):
    """Say that other processes are no test for it."""
    raise UserError("several processes")


def check(outcome, arguments):
    """Whether a call ended in a run, or in one message."""
    told = f"{arguments}\n{outcome.err[-3000:]}"
    assert "Traceback" not in outcome.err, told
    known = "training diverged" in outcome.err or "not enough memory" in outcome.err
    assert outcome.code in (0, 2) or (outcome.code == 1 and known), told
    if outcome.code == 2:
        assert re.search(r"^(mixgan \w+: .|usage: )", outcome.err, re.MULTILINE), told


POINTS = (
    *(setting for setting in TINY if not setting.startswith(("data.size", "model.backbone"))),
    "data=ring",
    "model.backbone.generator_widths=[8,8]",
    "model.backbone.discriminator_widths=[8]",
)


@fuzzed(60)
@given(arguments=st.deferred(lambda: overrides("config", "")))
def test_configuring_a_training(mixgan, monkeypatch, arguments):
    monkeypatch.setattr(train, "open_run", open_none)
    monkeypatch.setattr(train, "launch", too_many)
    check(mixgan("train", *TINY, *arguments), arguments)


@fuzzed(10)
@given(arguments=st.deferred(lambda: overrides("config", "")))
def test_training(mixgan, monkeypatch, arguments):
    monkeypatch.setattr(train, "open_run", open_if_short)
    monkeypatch.setattr(train, "launch", too_many)
    check(mixgan("train", *TINY, *arguments), arguments)


@fuzzed(8)
@given(arguments=st.deferred(lambda: overrides("config", "")))
def test_training_on_points(mixgan, monkeypatch, arguments):
    monkeypatch.setattr(train, "open_run", open_if_short)
    monkeypatch.setattr(train, "launch", too_many)
    check(mixgan("train", *POINTS, *arguments), arguments)


@pytest.fixture
def run(mixgan, finished):
    return finished()


@fuzzed(12)
@given(arguments=st.deferred(lambda: overrides("evaluate", "data", "evaluation", "hardware")))
def test_evaluating(mixgan, run, arguments):
    base = ("hardware=cpu", "evaluation.download=false", "evaluation.n_fake=16", "evaluation.n_real=16")
    check(mixgan("evaluate", f"run={run}", *base, *arguments), arguments)


@fuzzed(12)
@given(arguments=st.deferred(lambda: overrides("sample", "hardware")))
def test_sampling(mixgan, run, arguments):
    shutil.rmtree(run / "samples", ignore_errors=True)
    check(mixgan("sample", f"run={run}", "hardware=cpu", "n=4", *arguments), arguments)


@fuzzed(12)
@given(arguments=st.deferred(lambda: overrides("fetch", "data")))
def test_fetching(mixgan, monkeypatch, arguments):
    def no_network(*arguments):
        raise OSError("no network")

    for name in ("download_url", "download_file_from_google_drive"):
        monkeypatch.setattr(locate, name, no_network)
    monkeypatch.setattr("torchvision.datasets.MNIST.download", no_network)
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    check(mixgan("fetch", "data=digits", *arguments), arguments)

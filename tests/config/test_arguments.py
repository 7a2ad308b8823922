"""Words of a command line in any order, and paths as people write them."""

import logging
import shlex
import time

import pytest

from mixgan_cli import __version__
from mixgan_cli.config.arguments import flags_first, quote_path


def test_flags_come_first_with_their_values():
    words = ["model=hmog", "--cfg", "job", "seed=1", "--info", "k=2", "-m", "--config-dir", "conf"]
    assert flags_first(words) == [
        "--cfg", "job", "--info=all", "-m", "--config-dir", "conf", "model=hmog", "seed=1", "k=2"
    ]  # fmt: skip
    assert flags_first(["a=1", "--info", "defaults"]) == ["--info=defaults", "a=1"]


@pytest.mark.parametrize(
    "words", [("model=hmog", "--cfg", "job", "seed=3"), ("--cfg", "job", "seed=3"), ("seed=3", "--cfg=job")]
)
def test_cfg_job_stands_anywhere(mixgan, words):
    outcome = mixgan("train", *words)
    assert outcome.code == 0 and "\nseed: 3\n" in outcome.out


def test_version_stands_anywhere(mixgan):
    for words in (("--version",), ("train", "--version"), ("train", "seed=1", "--version")):
        assert mixgan(*words).out == f"mixgan {__version__}\n"


def test_info_is_printed(mixgan, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    outcome = mixgan("train", "seed=1", "--info", "defaults")
    assert outcome.code == 0 and "Defaults List" in outcome.out and "model/gate/tree" in outcome.out


WRONG = {
    "--lr 0.1": "--lr. Keys have no dashes: write KEY=VALUE. Did you mean 'objective.optimizer.generator.lr'",
    "--batch-size=3": "--batch-size=3. Keys have no dashes: write KEY=VALUE. Did you mean 'training.batch'?",
    "--cfg": "expected one argument",
    "--cfg bogus": "invalid choice: 'bogus'",
    "--cfg job --info": "--cfg and --info: --cfg and --info print a single run",
    "--resolve": "Add --cfg job",
    "--config-dir nowhere model/gate=own": "--config-dir nowhere: there is no such folder",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_flag_gives_one_message(mixgan, words):
    outcome = mixgan("train", *words.split())
    assert outcome.code == 2 and WRONG[words] in outcome.err and outcome.err.count("\n") == 1


NEW = [
    *("jürgen", "archive (1)", "a=b", "数据", "#hash", "a&b", "tilde~", "2024", "1_0", "1e3", "it's"),
    *("[x]", "{x}", "(c", "true", "caf\udce9"),
]
NAMES = [*NEW, "a,b", "null", "${x}", "'q'"]


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """A prepared command: `mixgan export` reads paths only, and says which one it looked for."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", NAMES)
def test_existing_path_is_taken_whatever_its_name(mixgan, arrays, name):
    for words in ((f"run={name}",), (name,)):
        assert f"mixgan export: run={name}" in mixgan("export", *words).err


@pytest.mark.parametrize("name", NEW)
def test_new_path_is_taken_whatever_its_name(mixgan, name):
    assert f"mixgan export: run={name}: there is no generator" in mixgan("export", f"run={name}").err


@pytest.mark.parametrize("name", NAMES)
def test_new_path_in_any_folder_is_taken(mixgan, arrays, name):
    assert f"mixgan export: run={name}/new: there is no generator" in mixgan("export", f"run={name}/new").err


def test_text_that_cannot_be_read_is_shown_in_quotes(mixgan):
    outcome = mixgan("train", "evaluation.name=out (1)")
    assert outcome.code == 2 and outcome.err.strip().endswith(shlex.quote("evaluation.name='out (1)'"))


def test_only_paths_are_quoted(arrays):
    assert quote_path("seed=2024", False) == "seed=2024"
    assert quote_path("data.root=2024", False) == "data.root='2024'"
    assert quote_path("data.root=a,b", True) == "data.root=a,b"  # two sets of a sweep
    assert quote_path("data.root=b (1),b=2", True) == "data.root='b (1)','b=2'"
    assert quote_path("data.root=nowhere", False) == "data.root=nowhere"
    assert quote_path("data.root=nowhere,there", False) == "data.root=nowhere,there"  # -m is missing
    assert quote_path("paths.outputs=${oc.env:X}/a (1)", False) == "paths.outputs=${oc.env:X}/a (1)"
    assert quote_path("weights=true", False) == "weights=true"
    assert quote_path("to=null", False) == "to='null'"  # it exists
    assert quote_path("paths=[a=b,2024]", False) == "paths=['a=b','2024']"
    assert quote_path("paths=[b,1e3]", False) == "paths=['b','1e3']" and quote_path("paths=7", False) == "paths='7'"
    assert quote_path("paths={run: x}", False) == "paths={run: x}"
    assert quote_path(r"paths.run=outputs/a\ b", False) == r"paths.run=outputs/a\ b"


def test_home_folder_is_expanded(mixgan, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert "mixgan export: run=/somewhere/x: " in mixgan("export", "run=~/x").err
    assert "mixgan export: run=/somewhere/x: " in mixgan("export", "run='~/x'").err


EMPTY = [
    ("fetch", "data=folder", "data.root="), ("evaluate", "images=", "data=digits"), ("evaluate", "run="),
    ("report", "paths="), ("train", "-m", "sweep.name=", "seed=1,2"),
    ("train", "-m", "hydra.sweep.dir=", "seed=1,2"), ("train", "logger=tensorboard", "logger.tensorboard.folder="),
    ("train", "--config-dir", "", "seed=x"), ("evaluate", "run=x", "to="),
    ("sample", "run=x", "to="), ("export", "run="), ("report", "paths=['']"),
    ("train", "paths.outputs="), ("train", "paths.run="), ("train", "evaluation.weights=' '"),
]  # fmt: skip


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_empty_path_is_refused(mixgan, words):
    outcome = mixgan(*words)
    assert outcome.code == 2 and "the path is empty" in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "word",
    ["model=null", "hardware=2", "data=1.5", "model/gate=true", "evaluation={a:1}", "+schedule=null", "data=[null]",
     "hardware=[[cpu]]", "logger=[jsonl,1]", "hardware=[${seed}]", "experiment='${'"],
)  # fmt: skip
def test_choice_that_is_no_name_is_refused_by_its_group(mixgan, word):
    outcome = mixgan("train", word)
    assert outcome.code == 2 and f"mixgan train: {word}: there is no such choice. Known: " in outcome.err


@pytest.mark.parametrize("word", ["a" * 100_000, f"{'a.' * 50_000}b=1", f"evaluation.name={'a' * 100_000}token"])
def test_long_override_is_refused_at_once(mixgan, word):
    began = time.monotonic()
    assert mixgan("train", word, "seed=x").code == 2 and time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("words", "message"),
    [(("evaluate", f"compare={'9' * 5000}"), "compare: a number of more than 4,300 digits"),
     (("train", f"hardware={'9' * 5000}"), "hardware: a number of more than 4,300 digits"),
     (("train", "data='\0'"), "data='\\x00'\": no value can have a null character"),
     (("report", "paths=x\0"), "paths=x\\x00': no value can have a null character")],
)  # fmt: skip
def test_value_that_no_library_reads_is_refused_by_its_key(mixgan, words, message):
    outcome = mixgan(*words)
    assert outcome.code == 2 and message in outcome.err and outcome.err.count("\n") == 1, outcome.err


@pytest.mark.parametrize("word", ["data=${nothing}", "data=${..seed}", "data=x${seed}"])
def test_wrong_interpolation_of_a_choice_names_the_group(mixgan, word):
    outcome = mixgan("fetch", word)
    assert outcome.code == 2 and f"mixgan fetch: {word}: Error resolving interpolation" in outcome.err, outcome.err


def test_interpolation_to_a_number_is_no_choice(mixgan):
    outcome = mixgan("train", "schedule=${oc.select:nothing,1}")
    assert outcome.code == 2 and "schedule=${oc.select:nothing,1}: there is no such choice" in outcome.err, outcome.err


def test_single_path_needs_no_brackets(mixgan):
    for name in ("7", "a=b"):
        assert f"mixgan report: paths={name}: there is no such folder" in mixgan("report", f"paths={name}").err


def test_text_may_look_like_a_number(mixgan):
    outcome = mixgan(
        "train",
        "evaluation.name=2024",
        "data.name=7",
        "logger=tensorboard",
        "logger.tensorboard.folder=1",
        "sweep.name=3",
        "seed=x",
    )
    assert outcome.err.count("\n") == 1 and "seed='x'" in outcome.err

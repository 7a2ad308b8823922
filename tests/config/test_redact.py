"""A W&B key, or another secret, gets into no file, log or message."""

import json
import logging
import re
from pathlib import Path

import pytest

from mixgan_cli.commands import train
from mixgan_cli.config import redact
from mixgan_cli.errors import ConfigError
from tests.conftest import TINY

KEY = "5e0c7e7" * 6
"""Of W&B's length."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def nowhere(outcome, secret=KEY):
    """Whether neither messages nor any file below the current folder hold the secret."""
    assert secret not in outcome.out + outcome.err
    holding = [path for path in Path().rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert not holding
    return True


def test_wandb_run_stores_no_key(mixgan):
    """For real, offline: nothing in the run's folder, W&B's own files included."""
    outcome = mixgan("train", *TINY, "logger=wandb", "training.nimg=32")
    assert outcome.code == 0 and nowhere(outcome)
    folder = Path(outcome.json["run_dir"])
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))  # or there was nothing to look at
    assert {"config.yaml", "environment.json", "metrics.jsonl"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "environment.json").read_text())["command"][0] == "mixgan train"


GIVEN = [
    "logger.wandb.api_key={}", "+logger.wandb.api_key={}", "++logger.wandb.api_key='{}'",
    "WANDB_API_KEY={}", "+wandb_api_key={}", "+logger.w={{_target_: x, api_key: {}}}",
    "+logger.w={{'api_key':'{}'}}", "logger.wandb.apikey={}", "data.access_token={}", "+data.password={}",
    "logger.wandb.api_key={}(", "hydra.job.env_set.WANDB_API_KEY={}",
]  # fmt: skip


@pytest.mark.parametrize("override", GIVEN)
@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=["run", "sweep"])
def test_override_with_a_secret_is_refused(mixgan, override, sweep):
    secret = "another-key-0123456789"
    outcome = mixgan("train", *TINY, "logger=wandb", *sweep, override.format(secret))
    assert outcome.code == 2 and "secrets cannot be part of a configuration" in outcome.err
    assert "wandb login" in outcome.err and len(outcome.err.splitlines()) == 1
    assert nowhere(outcome, secret)


@pytest.mark.parametrize(
    "override",
    [f"logger.wandb.project={KEY}", f"training.nimg={KEY}", f"logger.wandb.tags=[a,{KEY}]",
     KEY, f"paths.run={KEY}",
     "logger.wandb.entity=${oc.env:WANDB_API_KEY}", "model.name=x${oc.env:WANDB_API_KEY}"],
)  # fmt: skip
def test_value_of_the_environment_key_is_refused(mixgan, override):
    outcome = mixgan("train", *TINY, "logger=wandb", override)
    assert outcome.code == 2 and "$WANDB_API_KEY" in outcome.err and nowhere(outcome)


SECRETS = {
    "HF_TOKEN": "hf_0123456789",
    "MY_PASSWORD": "it's \\ secret",
    "AWS_ACCESS_KEY_ID": "AKIA01234567",
    "A_SECRET": "pin",
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("where", ["override", "file", "value"])
def test_value_of_a_secret_variable_is_refused(mixgan, monkeypatch, name, where):
    """By its name, and by what is in it where that is long enough."""
    secret = SECRETS[name]
    monkeypatch.setenv(name, secret)
    word = f"evaluation.name=x${{oc.env:{name}}}"
    if where == "value":
        monkeypatch.setenv("ORDINARY", f"x{secret}" if name != "A_SECRET" else "x${oc.env:A_SECRET}")
        word = "evaluation.name=${oc.env:ORDINARY}"
    if where == "file":
        Path("conf/experiment").mkdir(parents=True)
        text = f"# @package _global_\nevaluation:\n  name: ${{oc.env:{name}}}\n"
        Path("conf/experiment/mine.yaml").write_text(text)
        word = "experiment=mine"
    outcome = mixgan("train", "--config-dir", "conf", *TINY, word) if where == "file" else mixgan("train", *TINY, word)
    assert outcome.code == 2 and f"a value holds ${name}" in outcome.err
    assert not list(Path().rglob("config.yaml"))


def test_ordinary_overrides_are_accepted():
    redact.refuse_secrets(
        ["model.k=3", "data.n_tokens=3", "paths.outputs=secrets/x", "+data.tokens=[1]", "data.root=token"]
    )
    with pytest.raises(ConfigError, match=r"^model\.token: "):
        redact.refuse_secrets(["model.k=3", "model.token=x"])


def test_messages_of_libraries_are_masked(mixgan, monkeypatch):
    import wandb

    def refuse(**settings):
        raise RuntimeError(f"the key {KEY} is not known")

    monkeypatch.setattr(wandb, "init", refuse)
    outcome = mixgan("train", *TINY, "logger=wandb", "training.nimg=32")
    assert outcome.code == 0 and "the key ($WANDB_API_KEY) is not known" in outcome.err and nowhere(outcome)


def test_tracebacks_and_failed_are_masked(mixgan, monkeypatch):
    def fail(*arguments):
        raise RuntimeError(f"no such key: {KEY}")

    monkeypatch.setattr(train, "_train_and_evaluate", fail)
    outcome = mixgan("train", *TINY, "paths.run=here")
    assert outcome.code == 1 and "Traceback" in outcome.err and "no such key: ($WANDB_API_KEY)" in outcome.err
    assert "RuntimeError: no such key: ($WANDB_API_KEY)" in Path("here/FAILED").read_text()
    assert nowhere(outcome)


def test_all_secrets_of_the_environment_are_masked(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("SHORT_TOKEN", "a")  # would mask every a
    monkeypatch.setenv("KEYBOARD", "an ordinary value")
    assert (
        redact.masked(f"a {KEY} hf_0123456789 an ordinary value") == "a ($WANDB_API_KEY) ($HF_TOKEN) an ordinary value"
    )
    record = logging.LogRecord("mixgan", logging.INFO, "", 0, "%s!", (KEY,), None)
    assert redact.RedactingFormatter("%(message)s").format(record) == "($WANDB_API_KEY)!"


@pytest.mark.parametrize("value", ["s3cret-of-mine", "a'b: second's #3", "zebra-line\nquokka", "words " * 30])
@pytest.mark.parametrize("words", [("--cfg", "job", "--resolve"), ("--cfg", "all", "--resolve"), ("--info", "config")])
def test_printed_configuration_has_no_secret_from_a_file(mixgan, tmp_path, monkeypatch, value, words):
    """A YAML file of the user's may name the variable; what is printed may be kept in a log."""
    monkeypatch.setenv("MY_TOKEN", value)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nname: ${oc.env:MY_TOKEN}\n")
    outcome = mixgan("train", "--config-dir", str(tmp_path), "experiment=mine", *words)
    assert outcome.code == 0 and "MY_TOKEN" in outcome.out and "model:" in outcome.out
    shown = outcome.out + outcome.err
    assert not [part for part in re.split(r"\W+", value) if len(part) > 4 and part in shown]

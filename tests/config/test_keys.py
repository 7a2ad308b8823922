"""Names of keys, and what a wrong one means."""

import pytest

from mixgan_cli.config.compose import known_keys
from mixgan_cli.config.keys import SYNONYMS, flatten_keys, meant, prefixes


def test_flatten_keys_joins_nested_keys():
    assert flatten_keys({"a": 1, "b": {"c": [2], "d": {}}}) == {"a": 1, "b.c": [2], "b.d": {}}


def test_prefixes_are_the_groups_and_the_key():
    assert prefixes("a.b.c") == ["a", "a.b", "a.b.c"]


COMMON = {
    "lr": "'objective.optimizer.generator.lr' or 'objective.optimizer.discriminator.lr'",
    "objective.lr": "'objective.optimizer.generator.lr' or 'objective.optimizer.discriminator.lr'",
    "learning-rate": "'objective.optimizer.generator.lr' or 'objective.optimizer.discriminator.lr'",
    "batch_size": "'training.batch'",
    "training.batch_size": "'training.batch'",
    "epochs": "'training.epochs'",
    "steps": "the length of a run is training.nimg, in real images shown",
    "k": "'model.k'",
    "n_experts": "'model.k'",
    "resume": "the same command resumes an unfinished run",
    "wandb": "logger=wandb",
    "gpus": "'hardware.devices'",
    "nz": "'model.latent.size'",
    "optimizer": "'objective.optimizer' or 'objective/optimizer'",
    "btach": "'training.batch' or 'evaluation.batch'",
    "training.nimgs": "'training.nimg'",
    "data.sise": "'data.size' or 'model.latent.size'",
    "sweep.nam": "'sweep.name' or",
}


@pytest.fixture(scope="module")
def known():
    return known_keys("config")


@pytest.mark.parametrize("key", COMMON)
def test_hint_names_the_key_that_is_meant(key, known):
    assert COMMON[key] in meant(key, known)


def test_hints_are_those_of_the_command():
    known = known_keys("sample")
    assert meant("n_samples", known) == " Did you mean 'n'?"
    assert meant("wandb", known) == meant("resume", known) == ""


def test_hints_know_the_choices_of_the_command_line(mixgan, tmp_path):
    gate = tmp_path / "model" / "gate" / "own.yaml"
    gate.parent.mkdir(parents=True)
    gate.write_text("_target_: mixgan_cli.models.SoftmaxGate\nsharpness: 5.0\n")
    outcome = mixgan("train", "--config-dir", str(tmp_path), "model=mog", "model/gate=own", "model.gate.sharpnes=3")
    assert outcome.code == 2 and "Did you mean 'model.gate.sharpness'?" in outcome.err


def test_synonyms_lead_to_keys_that_exist():
    keys = {key for command in ("config", "sample") for key in known_keys(command)} | {"data.root"}
    ends = {end for synonym in SYNONYMS.values() for end in synonym}
    assert [end for end in ends if not any(key == end or key.endswith((f".{end}", f"/{end}")) for key in keys)] == []


def test_key_of_another_choice_is_explained(mixgan):
    outcome = mixgan("train", "data.modes=4")
    assert outcome.code == 2
    assert "data.modes: there is no such key with the choices made; there is with data=ring" in outcome.err

"""Old names of keys and choices: none of them is still valid, and each new one is."""

import shlex

import pytest
from omegaconf import OmegaConf

from mixgan_cli.config.compose import groups
from mixgan_cli.config.renamed import CHOICES, KEYS, renamed
from tests.conftest import composition

ABSENT = object()


def test_old_keys_lead_to_valid_ones():
    configurations = [composition(f"model={model}") for model in groups()["model"]]

    def is_valid(key):
        return any(OmegaConf.select(config, key, default=ABSENT) is not ABSENT for config in configurations)

    assert [old for old in KEYS if is_valid(old)] == []
    assert [new for new in KEYS.values() if not is_valid(new)] == []


@pytest.mark.parametrize("old", CHOICES)
def test_old_choices_lead_to_valid_ones(old):
    group, _, choice = old.partition("=")
    assert choice not in groups()[group]
    assert composition(*shlex.split(CHOICES[old]))


def test_keys_below_a_renamed_one_follow_it():
    assert renamed("logger.sinks") == "logger"
    assert renamed("logger.sinks.wandb.project") == "logger.wandb.project"
    assert renamed("logger.sinkss") is None and renamed("logger") is None


def test_message_for_an_old_key_has_its_new_name(mixgan):
    outcome = mixgan("train", "logger=wandb", "logger.sinks.wandb.project=mine")
    assert outcome.code == 2 and outcome.err == (
        "mixgan train: logger.sinks.wandb.project: renamed to logger.wandb.project\n"
    )


def test_message_for_an_old_choice_has_its_new_name(mixgan):
    outcome = mixgan("train", "experiment=hmog2019_mog_celeba")
    assert outcome.code == 2 and outcome.err == (
        "mixgan train: experiment=hmog2019_mog_celeba: renamed to experiment=hmog2019_mog data=celeba "
        "data.split_seed='${seed}'\n"
    )

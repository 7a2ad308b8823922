"""Old names of keys and choices: none of them is still valid, and each new one is."""

import pytest

from mixgan_cli.composition import groups, known_keys
from mixgan_cli.renamed import RENAMED, renamed


@pytest.fixture(scope="module")
def valid():
    """Return all keys of a training run, and all choices written GROUP=CHOICE."""
    return {*known_keys("config"), *(f"{group}={choice}" for group, choices in groups().items() for choice in choices)}


def test_every_old_name_leads_to_a_valid_one(valid):
    for old, new in RENAMED.items():
        assert old not in valid, old
        assert set(new.split()) <= valid, new


def test_keys_below_a_renamed_one_follow_it():
    assert renamed("logger.sinks") == "logger"
    assert renamed("logger.sinks.wandb.project") == "logger.wandb.project"
    assert renamed("logger.sinkss") is None and renamed("logger") is None


def test_an_old_key_is_answered_with_its_new_name(mixgan):
    outcome = mixgan("train", "logger=wandb", "logger.sinks.wandb.project=mine")
    assert outcome.code == 2 and outcome.err == (
        "mixgan train: logger.sinks.wandb.project: renamed to logger.wandb.project\n"
    )

import pytest
import torch

from mixgan_cli import __version__, cli
from mixgan_cli.config.compose import groups


def test_alone_it_prints_help(mixgan):
    outcome = mixgan()
    assert outcome.code == 0
    for name in cli.COMMANDS:
        assert f"  {name} " in outcome.out


def test_version(mixgan):
    assert mixgan("--version").out.strip() == f"mixgan {__version__}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_lists_groups_and_choices(mixgan, name):
    outcome = mixgan(name, "--help")
    assert outcome.code == 0
    used = {"sample": {"hardware"}, "evaluate": {"data", "evaluation", "hardware"}, "fetch": {"data"}}
    used = {**used, "export": set(), "report": {"hardware"}}.get(name)
    for group, choices in groups().items():
        listed = used is None or group.partition("/")[0] in used
        assert (f"\n  {group}\n" in outcome.out) == listed
        assert not listed or all(f"    {choice}" in outcome.out for choice in choices)


def test_an_unknown_command(mixgan):
    outcome = mixgan("trian")
    assert outcome.code == 2 and "Did you mean 'train'" in outcome.err


def test_cfg_job_prints_the_run(mixgan, tmp_path):
    outcome = mixgan("train", "--cfg", "job", "model.k=16")
    assert outcome.code == 0 and "k: 16" in outcome.out and "nimg:" in outcome.out
    assert not list(tmp_path.rglob("*"))


def test_no_memory_is_told_in_one_message(mixgan, monkeypatch):
    """For real: a tensor of 2^60 bytes; and what CUDA says."""
    from mixgan_cli.commands import sample

    monkeypatch.setattr(sample, "run", lambda config: torch.empty(2**60, dtype=torch.uint8))
    outcome = mixgan("sample", "run=x")
    assert outcome.code == 1 and "mixgan sample: not enough memory (" in outcome.err and "Traceback" not in outcome.err
    monkeypatch.setattr(sample, "run", lambda config: exec("raise torch.OutOfMemoryError('CUDA out of memory. Tried')"))
    outcome = mixgan("sample", "run=x")
    assert outcome.code == 1 and "not enough memory (CUDA out of memory" in outcome.err


def test_networks_that_no_machine_holds_are_refused_before_they_are_made(mixgan, monkeypatch):
    monkeypatch.setattr("mixgan_cli.models.networks.total_memory", lambda: 2**20)
    outcome = mixgan("train", "model.backbone.channels=64")
    assert outcome.code == 2 and "model: its weights take 0 GiB, and this machine has 0" in outcome.err


def test_a_fault_of_the_program_shows_its_traceback(mixgan, monkeypatch):
    from mixgan_cli.commands import sample

    monkeypatch.setattr(sample, "run", lambda config: 1 / 0)
    outcome = mixgan("sample", "run=x")
    assert outcome.code == 1 and "ZeroDivisionError" in outcome.err

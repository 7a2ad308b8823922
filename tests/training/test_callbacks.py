"""Statistics of the generator's activations, and alarms of collapse."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mixgan_cli.config.schema import Alarms
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime import distributed
from mixgan_cli.training import loop
from mixgan_cli.training.callbacks import Callbacks, CollapseMonitor, activation_stats
from mixgan_cli.training.checkpoint import Best, Progress
from tests.conftest import composed

ALARMS = Alarms(quality=3, usage=0.1, active=0.5, loss=1e6, spread=1e-3, stop=True)
BEST = Best("fid", 12.5, 12.5, 4000)


class Recorder(CollapseMonitor):
    """A monitor with a run's progress, and the warnings that it gave."""

    def __init__(self, **changes):
        self.progress, self.warnings = Progress(nimg=9000, best=BEST), []
        super().__init__(ALARMS.model_copy(update=changes), lambda *warning: self.warnings.append(warning))

    @property
    def active(self):
        return self.progress.alarms

    def check(self, **record):
        self.report(record, self.progress)

    def evaluated(self, since_best):
        self.progress.since_best = since_best
        self.evaluation(self.progress)


def test_alarm_warns_once_and_again_after_recovery():
    monitor = Recorder()
    for active in (0.9, 0.4, 0.3, 0.8, 0.2):
        monitor.check(active_neurons=active)
    assert [kind for kind, _, _ in monitor.warnings] == ["active", "active"] and monitor.active == ["active"]
    assert "40 % of the generator's ReLUs" in monitor.warnings[0][1]


def test_unused_expert_is_named():
    monitor = Recorder()
    monitor.check(gate_usage=[0.3, 0.03, 0.37, 0.3])  # a tenth of an equal share is 0.025
    assert not monitor.warnings and not monitor.active
    monitor.check(gate_usage=[0.3, 0.02, 0.38, 0.3])
    kind, message, _ = monitor.warnings[0]
    assert kind == "usage" and "expert 1 has 2 % of the samples; an equal share is 25 %" in message


def test_huge_loss_is_named():
    monitor = Recorder()
    monitor.check(**{"loss/discriminator": 1e6, "loss/generator": -1e6, "score/real": 1e20})
    assert not monitor.active
    monitor.check(**{"loss/discriminator": 2.0, "loss/generator": -7.5e25})
    kind, message, _ = monitor.warnings[0]
    assert kind == "loss" and "the absolute value of loss/generator is 7.5e+25" in message


def test_equal_samples_raise_an_alarm():
    monitor = Recorder()
    for spread in (0.5, 1e-4, 0.0):
        monitor.check(sample_spread=spread)
    kind, message, _ = monitor.warnings[0]
    assert kind == "spread" and "their standard deviation is 0.0001" in message and len(monitor.warnings) == 1


def test_evaluations_without_improvement_raise_an_alarm():
    monitor = Recorder()
    for since_best in (0, 1, 2):
        monitor.evaluated(since_best)
    assert not monitor.warnings
    monitor.evaluated(3)
    message = "3 evaluations without a better fid than 12.5, reached at 4,000 images (best.pt)"
    assert monitor.warnings == [("quality", message, 9000)] and monitor.active == ["quality"]
    monitor.evaluated(0)
    assert not monitor.active


def test_null_alarms_are_off():
    monitor = Recorder(quality=None, usage=None, active=None, loss=None, spread=None)
    monitor.check(active_neurons=0.0, gate_usage=[1.0, 0.0], sample_spread=0.0, **{"loss/generator": 1e30})
    monitor.evaluated(100)
    assert not monitor.warnings and not monitor.active


def test_alarm_ends_the_run_if_configured():
    for stop in (True, False):
        monitor = Recorder(stop=stop)
        assert not monitor.ends(monitor.progress)
        monitor.check(active_neurons=0.1)
        assert monitor.ends(monitor.progress) is stop


@pytest.mark.parametrize("step", [3, 10])
def test_ranks_agree_after_alarms_were_checked(monkeypatch, step):
    """So that an alarm ends a run at the same iteration on any number of ranks, not at the next tenth one."""
    monitor = Recorder()
    monitor.check(active_neurons=0.1)
    monitor.progress.step = step
    state, interruptions = SimpleNamespace(progress=monitor.progress), SimpleNamespace(received=0)
    monkeypatch.setattr(distributed, "max_over_ranks", lambda vote: vote)
    for ranks in (1, 2):
        monkeypatch.setattr(distributed, "world_size", lambda ranks=ranks: ranks)
        callbacks = SimpleNamespace(monitor=monitor, alarms_due=True)
        monitor.progress.ended = False
        loop._end_if_agreed(state, callbacks, interruptions)
        assert monitor.progress.ended and not callbacks.alarms_due


# Activations


def generator(*overrides):
    run = composed("model.k=2", "model.backbone.channels=2", *overrides)
    return build_networks(run.model, (1, 8, 8)).generator


@pytest.mark.parametrize("model", ["mggan", "madgan", "megan"])
def test_activation_stats_change_nothing(model):
    network = generator(f"model={model}")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert 0 < activation_stats(network)["active_neurons"] <= 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_units_that_never_fire_are_not_active():
    """Half of the first layer's units get a bias no latent can lift above zero."""
    network = generator("model=gan", "model.k=1", "model.backbone.generator_norm=none")
    experts = network.experts
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == 1  # at 8 pixels, the first layer's alone
    assert activation_stats(network)["active_neurons"] == 1
    with torch.no_grad():
        experts.bias_KH[:, ::2] = -1e3
    assert activation_stats(network)["active_neurons"] == 0.5


def test_spread_is_the_deviation_over_samples():
    network = generator("model=gan", "model.k=1")
    assert activation_stats(network)["sample_spread"] > 1e-3
    with torch.no_grad():
        network.experts.weight_KZH.zero_()  # each latent gives the same image
    assert activation_stats(network)["sample_spread"] < 1e-6
    with torch.no_grad():
        network.experts.weight_KZH.fill_(1e38)
    assert "sample_spread" not in activation_stats(network)  # not finite


def test_unit_is_active_if_it_fires_on_a_tenth_of_the_batch():
    """A unit that fires with probability 0.05 counts as dead, one with 0.2 as active."""
    network = generator("model=gan", "model.k=1")
    with torch.no_grad():
        network.experts.weight_KZH.zero_()
        network.experts.weight_KZH[:, 0] = 1  # all units see the first latent, N(0, 1)
        network.experts.bias_KH[:, :64] = -1.645
        network.experts.bias_KH[:, 64:] = -0.842
    hidden = network.experts.bias_KH.shape[1]
    assert activation_stats(network, samples=10_000)["active_neurons"] == 1 - min(64, hidden) / hidden


def test_usage_of_a_learned_gate():
    network = generator("model=mog", "model.k=4")
    with torch.no_grad():
        network.gate.logits.weight.zero_()
        network.gate.logits.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    assert activation_stats(network)["gate_usage"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert "gate_usage" not in activation_stats(generator("model=mggan"))


def test_learned_prior_is_logged_exactly():
    """Not as `gate_usage`, whose alarm warns of unused experts."""
    network = generator("model=dmgan", "model.k=3")
    with torch.no_grad():
        network.gate.logits_K.copy_(torch.tensor([0.9, 0.09, 0.01]).log())
    stats = activation_stats(network)
    assert stats["gate_prior"] == pytest.approx([0.9, 0.09, 0.01]) and "gate_usage" not in stats


class FakeState:
    """A state that is a number, and a disk that may be full."""

    full = True

    def __init__(self):
        self.progress, self.value = Progress(), b"1"

    def weights(self):
        return {"generator": {"weight": torch.ones(1)}}

    def write(self, file):
        file.write(self.value)

    def save(self, path):
        if self.full:
            raise OSError(28, "No space left on device")
        path.write_bytes(self.value)

    def keep(self, folder, n):
        assert folder.checkpoint("best").read_bytes() == b"1"  # it is written before the last state
        self.save(folder.checkpoint("last"))


def test_best_state_of_a_full_disk_is_written_with_the_next_checkpoint(tmp_path):
    folder = SimpleNamespace(checkpoint=lambda name: tmp_path / f"{name}.pt", path=tmp_path)
    training, tracker = SimpleNamespace(keep=1), SimpleNamespace(alarm=None)
    callbacks = Callbacks(training, ALARMS, folder, tracker)
    callbacks._watch = None
    state = FakeState()
    callbacks.keep_best(state, Best("fid", 3.0, 3.0, 40))
    assert state.progress.best.value == 3.0 and not any(tmp_path.iterdir())
    state.full, state.value = False, b"2"
    callbacks.save(state)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"best.pt": b"1", "last.pt": b"2"}

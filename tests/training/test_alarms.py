from mixgan_cli.config.schema import Alarms
from mixgan_cli.training.callbacks import CollapseMonitor
from mixgan_cli.training.checkpoint import Best, Progress

ALARMS = Alarms(quality=3, usage=0.1, active=0.5, stop=True)
BEST = Best("fid", 12.5, 12.5, 4000)


class Looking(CollapseMonitor):
    """A watch with a run's progress, and what it told."""

    def __init__(self, **changes):
        self.progress, self.told = Progress(nimg=9000, best=BEST), []
        super().__init__(ALARMS.model_copy(update=changes), lambda *told: self.told.append(told))

    @property
    def raised(self):
        return self.progress.alarms

    def look(self, **record):
        self.report(record, self.progress)

    def measured(self, since_best):
        self.progress.since_best = since_best
        self.evaluation(self.progress)


def test_dying_relus_are_told_once_and_again_after_they_lived():
    looking = Looking()
    for active in (0.9, 0.4, 0.3, 0.8, 0.2):
        looking.look(active_neurons=active)
    assert [kind for kind, _, _ in looking.told] == ["active", "active"] and looking.raised == ["active"]
    assert "40 % of the generator's ReLUs" in looking.told[0][1]


def test_an_expert_that_starves_is_named():
    looking = Looking()
    looking.look(gate_usage=[0.3, 0.03, 0.37, 0.3])  # a tenth of an equal share is 0.025
    assert not looking.told and not looking.raised
    looking.look(gate_usage=[0.3, 0.02, 0.38, 0.3])
    kind, told, _ = looking.told[0]
    assert kind == "usage" and "expert 1 has 2 % of the samples; an equal share is 25 %" in told


def test_no_better_for_long():
    looking = Looking()
    for since_best in (0, 1, 2):
        looking.measured(since_best)
    assert not looking.told
    looking.measured(3)
    told = "3 evaluations without a better fid than 12.5, reached at 4,000 images (best.pt)"
    assert looking.told == [("quality", told, 9000)] and looking.raised == ["quality"]
    looking.measured(0)
    assert not looking.raised


def test_what_is_null_is_not_watched():
    looking = Looking(quality=None, usage=None, active=None)
    looking.look(active_neurons=0.0, gate_usage=[1.0, 0.0])
    looking.measured(100)
    assert not looking.told and not looking.raised


def test_an_alarm_ends_the_run_where_that_is_wanted():
    for stop in (True, False):
        looking = Looking(stop=stop)
        assert not looking.ends(looking.progress)
        looking.look(active_neurons=0.1)
        assert looking.ends(looking.progress) is stop

from mixgan_cli.config import Alarms
from mixgan_cli.training.alarms import Watch
from mixgan_cli.training.checkpoint import Best

ALARMS = Alarms(quality=3, usage=0.1, active=0.5, stop=True)
BEST = Best("fid", 12.5, 12.5, 4000)


def watch(**changes):
    told = []
    return Watch(ALARMS.model_copy(update=changes), lambda kind, text: told.append((kind, text))), told


def test_dying_relus_are_told_once_and_again_after_they_lived():
    looking, told = watch()
    for active in (0.9, 0.4, 0.3, 0.8, 0.2):
        looking.report({"active_neurons": active})
    assert [kind for kind, _ in told] == ["active", "active"] and "40 % of the generator's ReLUs" in told[0][1]
    assert looking.ends_the_run


def test_an_expert_that_starves_is_named():
    looking, told = watch()
    looking.report({"gate_usage": [0.3, 0.03, 0.37, 0.3]})  # a tenth of an equal share is 0.025
    assert not told and not looking.ends_the_run
    looking.report({"gate_usage": [0.3, 0.02, 0.38, 0.3]})
    assert told[0][0] == "usage" and "expert 1 has 2 % of the samples, an equal share would be 25 %" in told[0][1]


def test_no_better_for_long():
    looking, told = watch()
    for since_best in (0, 1, 2):
        looking.evaluation(since_best, BEST)
    assert not told
    looking.evaluation(3, BEST)
    assert told == [("quality", "3 evaluations without a better fid than 12.5, which was at 4,000 images (best.pt)")]
    looking.evaluation(0, BEST)
    assert not looking.ends_the_run


def test_what_is_null_is_not_watched_and_stop_is_a_choice():
    looking, told = watch(quality=None, usage=None, active=None)
    looking.report({"active_neurons": 0.0, "gate_usage": [1.0, 0.0]})
    looking.evaluation(100, BEST)
    assert not told
    looking, told = watch(stop=False)
    looking.report({"active_neurons": 0.0})
    assert told and not looking.ends_the_run

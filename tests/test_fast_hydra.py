"""The tests' faster Hydra composes what Hydra composes."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from mixgan_cli.config.schema import conf_dir
from tests import fast_hydra

COMMANDS = [
    ["config"],
    ["config", "model=mggan", "model.k=4", "model.beta=0.1", "seed=3"],
    ["config", "model=hmog", "model/gate=softmax", "objective=hinge", "data=ring", "debug=short"],
    ["config", "experiment=hmog2019_mog", "data=fashion_mnist", "training.epochs=2"],
    ["config", "objective/augment=diffaugment", "~logger", "hydra.verbose=true"],
    ["evaluate", "run=x", "evaluation=full"],
]
REFUSED = [
    ["config", "model=mgan"],
    ["config", "nothing/at=all"],
    ["config", "training.bach=3"],
    ["config", "~model/nothing"],
    ["config", "seed=1,2"],
]


@pytest.fixture
def plain():
    """Hydra as it is, for this test."""
    fast_hydra.install(fast_hydra.ORIGINAL)
    yield
    fast_hydra.install()


def composed(words, folder=None):
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder or conf_dir()), version_base="1.3"):
            config = compose(words[0], words[1:], return_hydra_config=True)
    except Exception as error:
        return type(error).__name__, str(error)
    return OmegaConf.to_yaml(config), str(config._metadata.flags), type(config.hydra.overrides.task)


def test_faster_hydra_composes_the_same(plain, tmp_path):
    expected = [composed(words) for words in COMMANDS + REFUSED]
    assert [len(found) for found in expected] == [3] * len(COMMANDS) + [2] * len(REFUSED)
    fast_hydra.install()
    for _ in range(2):  # what is computed, and what is kept
        assert [composed(words) for words in COMMANDS + REFUSED] == expected


def test_folders_of_a_user_are_read_anew(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1\n")
    assert "a: 1\n" in composed(["config"], tmp_path)[0]
    (tmp_path / "config.yaml").write_text("a: 23\n")
    assert "a: 23\n" in composed(["config"], tmp_path)[0]

import pytest

from mixgan_cli.config.compose import groups
from mixgan_cli.config.schema import conf_dir
from mixgan_cli.errors import ConfigError
from tests.conftest import composed


def test_every_yaml_file_starts_with_a_description():
    for path in conf_dir().rglob("*.yaml"):
        about = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert about[0].startswith("# "), path


CHOICES = [(group, choice) for group, choices in groups().items() for choice in choices]


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_choice_composes(group, choice):
    companions = {
        ("model/gate", "none"): ["model.k=1"],
        ("model/head", "multiclass"): ["objective=madgan"],
        ("objective", "madgan_sim"): ["model=madgan_sim"],
        ("objective/terms", "competition"): ["model=madgan_sim"],
        ("objective/terms", "balance"): ["model=megan"],
    }
    try:
        composed(f"{group}={choice}", *companions.get((group, choice), []))
    except ConfigError as error:
        assert "data.root" in str(error)  # the folder of images has no default
        composed(f"{group}={choice}", "data.root=somewhere")

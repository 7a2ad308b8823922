import pytest

from mixgan_cli.config.compose import choice_with, groups
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
        ("model/head", "minibatch"): ["objective=non_saturating"],
        ("model/head", "dual"): ["objective=d2gan"],
        ("model/head", "committee"): ["objective=non_saturating"],
        ("objective", "d2gan"): ["model=d2gan"],
        ("objective", "dmgan"): ["model=dmgan"],
        ("objective", "madgan_sim"): ["model=madgan_sim"],
        ("objective", "wgan_clip"): ["model.backbone.discriminator_norm=none"],
        ("objective/terms", "competition"): ["model=madgan_sim"],
        ("objective/terms", "balance"): ["model=megan"],
        ("objective/terms", "prior"): ["model=dmgan"],
        ("objective/unroll", "unrolled"): ["objective=minimax"],
    }
    try:
        composed(f"{group}={choice}", *companions.get((group, choice), []))
    except ConfigError as error:
        assert "data.root" in str(error)  # the folder of images has no default
        composed(f"{group}={choice}", "data.root=somewhere")


@pytest.mark.parametrize(
    ("name", "target", "choice"),
    [
        ("digits", "Digits", "digits"),
        ("mine", "Digits", "digits"),
        ("ring", "Ring", "ring"),
        ("photos", "Folder", "folder"),
        ("cifar10", "Folder", "folder"),
        ("x", "X", None),
    ],
)
def test_choice_is_found_by_the_class_of_a_renamed_data_set(name, target, choice):
    assert choice_with("data", name, f"mixgan_cli.data.{target}") == choice


def test_digits_name_another_recipe_for_hmog_only():
    """The default run. Elsewhere, and for other models, the objective is the paper's, and an override has its way."""

    def recipe(*overrides):
        run = composed(*overrides)
        penalty = run.objective.penalty["_target_"].rpartition(".")[2]
        return penalty, run.model.backbone["channels"], run.model.latent.size, run.training.nimg

    paper = ("GradientPenalty", 64, 100)
    assert recipe() == ("R1", 32, 32, 200_000)
    assert recipe("data=mnist") == (*paper, 15_000_000)
    assert recipe("model=mog") == (*paper, 48_000)
    assert recipe("objective=lsgan") == ("NoPenalty", 32, 32, 200_000)
    assert recipe("objective=hmog", "model/backbone=dcgan", "tuning=none") == (*paper, 48_000)
    assert recipe("experiment=fashion_mnist_cpu") == (*paper, 500_000)

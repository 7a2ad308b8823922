import pytest

from mixgan_cli.config import components
from mixgan_cli.errors import ConfigError


class Sized:
    """A component for the tests."""

    def __init__(self, size: int, share: float, name: str | None = None) -> None:
        self.size, self.share, self.name = size, share, name


def test_any_class_can_be_a_component():
    component = components.check({"_target_": f"{__name__}.Sized", "size": "3"})
    made = components.build(component, share=0.5, unused=1)
    assert (made.size, made.share, made.name) == (3, 0.5, None)


@pytest.mark.parametrize(
    ("component", "message"),
    [({"size": 3}, "_target_ is missing"), ({"_target_": "no.such.Class"}, "cannot be imported"),
     ({"_target_": f"{__name__}.Sized", "siez": 3}, "siez: Sized takes no such key. Did you mean 'size'"),
     ({"_target_": f"{__name__}.Sized", 1: 2}, "1: Sized takes no such key"),
     ({"_target_": f"{__name__}.Sized", "size": 1.5}, "size=1.5")],
)  # fmt: skip
def test_invalid_components_are_refused(component, message):
    with pytest.raises(ConfigError, match=message):
        components.check(component)

"""Both Inception networks: where their weights are found, and what torchvision's sees (with random weights)."""

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models import inception_v3

from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import inception
from mixgan_cli.evaluation.inception import TorchvisionInception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = inception_v3(weights=None, init_weights=False)
    path = tmp_path_factory.mktemp("weights") / "inception_v3.pth"
    torch.save(network.state_dict(), path)
    return path


def test_torchvision_features_equal_the_released_code(weights):
    """[0, 1], ImageNet's normalisation, 299 pixels; the network undoes the normalisation: it sees 2x - 1."""
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    (features,) = TorchvisionInception("hmog2019", ["2048"], str(weights))(images)
    network = inception_v3(weights=None, init_weights=False, transform_input=False)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.fc = torch.nn.Identity()
    seen = interpolate(2 * (images.float() / 255) - 1, size=299, mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = network.eval()(seen)
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_missing_torchvision_weights_name_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    inception.find_torchvision_weights.cache_clear()
    with pytest.raises(Unavailable, match="download=false: get https"):
        inception.find_torchvision_weights(False)
    inception.find_torchvision_weights.cache_clear()


def test_weights_are_searched_in_order(monkeypatch, tmp_path):
    for name in ("named", "variable", "hub"):
        (tmp_path / name).mkdir()
    named, variable = tmp_path / "named" / "x.pth", tmp_path / "variable" / "inception.pth"
    cached = tmp_path / "hub" / "hub" / "checkpoints" / inception.FILE
    cached.parent.mkdir(parents=True)
    for path in (named, variable, cached):
        path.write_bytes(b"")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    find = inception.find_weights.__wrapped__
    monkeypatch.setenv("MIXGAN_WEIGHTS", str(tmp_path / "variable"))
    assert find(str(named), False) == named
    assert find(None, False) == variable
    monkeypatch.delenv("MIXGAN_WEIGHTS")
    assert find(None, False) == cached
    cached.unlink()
    with pytest.raises(Unavailable, match="download=false"):
        find(None, False)
    with pytest.raises(Unavailable, match="no Inception weights there"):
        find(str(tmp_path / "absent.pth"), False)

"""The HMoG author's extractor, with weights drawn at random: the path of the pixels is what can be wrong."""

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models import inception_v3

from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import hmog2019
from mixgan_cli.evaluation.hmog2019 import TorchvisionInception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = inception_v3(weights=None, init_weights=False)
    path = tmp_path_factory.mktemp("weights") / "inception_v3.pth"
    torch.save(network.state_dict(), path)
    return path


def test_the_features_are_those_of_the_authors_code(weights):
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


def test_without_weights_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    hmog2019.find.cache_clear()
    with pytest.raises(Unavailable, match="download=false: get https"):
        hmog2019.find(False)
    hmog2019.find.cache_clear()

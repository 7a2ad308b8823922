"""What the tests of the evaluation share: an extractor with known answers, and an evaluator of given real images."""

import pytest
import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.evaluation.reference import ReferenceSet
from tests.conftest import composed

CPU = torch.device("cpu")


class KnownLogits(FeatureExtractorBase):
    """Ten logits and eight features that are simple functions of the pixels."""

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list():
        return ("8", "logits_unbiased")

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return {"isc": "logits_unbiased"}.get(metric, "8")

    @staticmethod
    def can_be_compiled():
        return False

    @staticmethod
    def get_dummy_input_for_compile():
        return torch.zeros(1, 3, 4, 4, dtype=torch.uint8)

    def forward(self, images):
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        pixels = images.flatten(1).float()
        features = {"8": pixels[:, :8] / 50, "logits_unbiased": pixels[:, 20:30] / 40}
        return tuple(features[name] for name in self.features_list)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "known", KnownLogits)
    return ("evaluation.extractors=[known]", "evaluation.feature_layer=8")


def evaluator(real, *overrides):
    evaluation = composed("evaluation.n_fake=1000", "evaluation.n_real=1000", *overrides).evaluation
    return Evaluator(evaluation, ReferenceSet(real[: evaluation.n_real], {}), CPU)


def colours(n, shift=0):
    return (torch.randn(n, 3, 16, 16) * 40 + 128 + shift).clamp(0, 255).to(torch.uint8)

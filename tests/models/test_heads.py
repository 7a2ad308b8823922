import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.heads import ClassifierHead, MulticlassHead, ScoreHead
from mixgan_cli.models.layers import he

N, F, K = 6, 10, 3


@pytest.mark.parametrize(("form", "logits"), [("general", 4), ("one_vs_all", 4), ("pairwise", 6)])
def test_number_of_expert_logits_depends_on_the_form(form, logits):
    features_NF = torch.randn(N, F)
    output = ClassifierHead(4, F, form, he, False)(features_NF)
    assert output.scores_N.shape == (N,) and output.expert_logits_NL.shape == (N, logits)
    assert output.features_NF is features_NF


def test_score_head_has_no_expert_logits():
    output = ScoreHead(F, he, False)(torch.randn(N, F))
    assert output.scores_N.shape == (N,) and output.expert_logits_NL is None


@pytest.mark.parametrize("form", ["one_vs_all", "pairwise"])
def test_comparing_forms_need_two_experts(form):
    with pytest.raises(ConfigError, match=rf"model\.head\.form={form}.*model\.k=1"):
        ClassifierHead(1, F, form, he, False)


@pytest.mark.parametrize("detach", [True, False])
def test_detach_features_stops_the_classifiers_gradient(detach):
    head, features_NF = ClassifierHead(K, F, "general", he, False), torch.randn(N, F, requires_grad=True)
    output = head(features_NF, detach)
    output.scores_N.sum().backward(retain_graph=True)
    of_scores = features_NF.grad.clone()
    assert of_scores.any()
    output.expert_logits_NL[:, 0].sum().backward()
    assert torch.equal(features_NF.grad, of_scores) == detach


def test_classifier_can_have_a_hidden_layer():
    head, features_NF = ClassifierHead(K, F, "general", he, False, hidden=5).double(), torch.randn(N, F).double()
    first, _, last = head.experts
    units = features_NF @ first.weight.T + first.bias
    units = torch.where(units > 0, units, 0.2 * units)
    torch.testing.assert_close(head(features_NF).expert_logits_NL, units @ last.weight.T + last.bias)
    assert first.weight.shape == (5, F)


def test_multiclass_score_and_logits_give_the_softmax():
    """log D_0 = -softplus(-s), log D_k = -softplus(s) + log softmax(l_1 … l_K)_k (Ghosh et al. 2018)."""
    head, features_NF = MulticlassHead(K, F, he, False).double(), torch.randn(N, F).double()
    scores_N, logits_NK, _ = head(features_NF)
    real = -nn.functional.softplus(-scores_N)
    fakes = -nn.functional.softplus(scores_N)[:, None] + logits_NK.log_softmax(dim=1)
    classes = head.classes(features_NF)
    for k, log_probability in enumerate([real, *fakes.T]):
        target = torch.full((N,), k)
        torch.testing.assert_close(log_probability, -cross_entropy(classes, target, reduction="none"))


def test_spectral_norm_bounds_the_head():
    head = ScoreHead(F, he, True)
    for _ in range(50):
        head(torch.randn(N, F))
    assert torch.linalg.matrix_norm(head.score.weight, ord=2).item() == pytest.approx(1, abs=0.01)

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from mixgan_cli.evaluation.metrics.classes import by_level, contingency, nmi, purity


def labelled(n=400, k=4, classes=5):
    expert = torch.randint(k, (n,))
    return expert, (expert + (torch.rand(n) < 0.3).long()) % classes


def test_nmi_and_purity_equal_scikit_learn():
    expert, kind = labelled()
    joint = contingency(torch.eye(4)[expert], kind, 5)
    assert joint.sum().item() == pytest.approx(1)
    assert nmi(joint) == pytest.approx(normalized_mutual_info_score(expert, kind), abs=1e-12)
    table = contingency_matrix(expert, kind)
    np.testing.assert_allclose(joint[:, : table.shape[1]] * len(kind), table)
    assert purity(joint) == pytest.approx(table.max(axis=1).sum() / table.sum())


def test_purity_and_nmi_are_at_most_one():
    """Rows of float32 weights do not sum to 1 exactly, so neither do their means."""
    weights = torch.full((999, 3), 1 / 3) * 1.0000003
    joint = contingency(weights, torch.zeros(999, dtype=torch.long), 4)
    assert (
        purity(joint) <= 1 and purity(joint) == pytest.approx(1) and joint.sum().item() == pytest.approx(1, abs=1e-15)
    )
    assert nmi(contingency(torch.eye(3).repeat(333, 1), torch.arange(999) % 3, 3)) <= 1


def test_soft_weights_divide_a_sample():
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    expected = [[0.375, 0.25, 0], [0.125, 0.25, 0]]
    torch.testing.assert_close(contingency(weights, torch.tensor([0, 1]), 3), torch.tensor(expected).double())


def test_nmi_and_purity_at_both_extremes():
    assert nmi(torch.eye(4).double() / 4) == pytest.approx(1) and purity(torch.eye(4).double() / 4) == pytest.approx(1)
    alike = torch.full((4, 5), 1 / 20).double()
    assert nmi(alike) == pytest.approx(0, abs=1e-12) and purity(alike) == pytest.approx(0.2)


def test_levels_of_a_tree():
    """The first split separates classes {0, 1} from {2, 3}, whatever the leaves 0, 1 | 2, 3 do."""
    joint = torch.tensor([[0.1, 0.1, 0, 0], [0.2, 0.1, 0, 0], [0, 0, 0.15, 0.1], [0, 0, 0.05, 0.2]]).double()
    first, second = by_level(joint)
    torch.testing.assert_close(first, torch.tensor([[0.3, 0.2, 0, 0], [0, 0, 0.2, 0.3]]).double())
    assert second is not None and torch.equal(second, joint)
    assert purity(first) == pytest.approx(0.6)

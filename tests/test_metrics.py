"""Confusion matrices and the accuracies read off them."""

import pytest
import torch
from confusion import confusion_of, evaluation_of
from torch import nn
from torch.nn import functional as F

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data import Split
from fedhpro_flwr.metrics import Evaluation, evaluate_each
from fedhpro_flwr.models import Model


def model_of(width=3, classes=4):
    return Model(nn.Identity(), nn.Linear(width, classes))


def data_of(samples, classes, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    split = Split(
        torch.randn(samples, width, generator=generator), torch.randint(classes, (samples,), generator=generator)
    )
    return ClientData(None, split, (0.0,), (1.0,))


def evaluate(model, data, *, batch_size):
    return evaluate_each(model, data, [model.head], batch_size=batch_size)[0]


BY_HAND = evaluation_of(torch.tensor([[[3, 1, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0], [1, 0, 0, 0]]]), 0.25)


def test_by_hand():
    assert (BY_HAND.examples, BY_HAND.correct, BY_HAND.accuracy) == (9, 5, 5 / 9)
    assert BY_HAND.class_accuracy() == [3 / 4, 2 / 4, None, 0.0]
    assert BY_HAND.group_accuracy([[0, 1], [2], [3, 2], []]) == [5 / 8, None, 0.0, None]


def test_identity_head_by_hand():
    model = model_of(3, 3)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(3))
        model.head.bias.zero_()
    inputs = torch.tensor([[5.0, 0, 0], [0, 5, 0], [5, 0, 0]])
    data = ClientData(None, Split(inputs, torch.tensor([0, 1, 2])), (0.0,), (1.0,))
    result = evaluate(model, data, batch_size=2)
    assert confusion_of(result).tolist() == [[[1, 0, 0], [0, 1, 0], [1, 0, 0]]]
    assert result.loss == pytest.approx(float(F.cross_entropy(inputs, torch.tensor([0, 1, 2]))), rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 500])
def test_against_a_double_loop(batch_size):
    model, data = model_of(), data_of(50, 4)
    result = evaluate(model, data, batch_size=batch_size)
    wanted = [[0] * 4 for _ in range(4)]
    losses = []
    for x, label in zip(data.test.inputs, data.test.labels.tolist(), strict=True):
        logits = model(x[None])[0].detach()
        losses.append(float(torch.logsumexp(logits, 0) - logits[label]))
        wanted[label][int(logits.argmax())] += 1
    assert confusion_of(result).tolist() == [wanted]
    assert result.loss == pytest.approx(sum(losses) / 50, rel=1e-5)
    assert result.correct == sum(wanted[c][c] for c in range(4))
    assert result.class_accuracy() == [wanted[c][c] / sum(wanted[c]) if sum(wanted[c]) else None for c in range(4)]


def test_without_samples():
    result = evaluate(model_of(), ClientData(None, None, (0.0,), (1.0,)), batch_size=5)
    assert (result.examples, result.correct, result.accuracy, result.loss) == (0, 0, 0.0, 0.0)
    assert result.class_accuracy() == [None] * 4
    assert result.group_accuracy([[0, 1]]) == [None]


def test_other_scores_take_the_place_of_the_head():
    data, scores = data_of(20, 4), [lambda z: F.one_hot(torch.tensor([2] * len(z)), 4) * 1.0]
    (constant,) = evaluate_each(model_of(), data, scores, batch_size=8)
    assert confusion_of(constant)[:, :, [0, 1, 3]].sum() == 0
    assert constant.correct == int((data.test.labels == 2).sum())


def test_the_model_is_in_eval_mode_and_unchanged():
    model = Model(nn.BatchNorm1d(3), nn.Linear(3, 4))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, data_of(20, 4), batch_size=6)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


TWO_DOMAINS = evaluation_of(torch.tensor([[[3, 1], [0, 2]], [[0, 0], [5, 1]]]), 0.5)


def test_domains_by_hand():
    assert TWO_DOMAINS.domain_accuracy() == [5 / 6, 1 / 6]
    assert TWO_DOMAINS.class_accuracy() == [3 / 4, 3 / 8]
    assert TWO_DOMAINS.group_accuracy([[1], [0, 1]]) == [3 / 8, 6 / 12]
    assert evaluation_of(torch.tensor([[[0, 0], [0, 0]], [[1, 0], [0, 0]]]), 0.0).domain_accuracy() == [
        None,
        1.0,
    ]


def test_domains_against_a_double_loop():
    model, data = model_of(), data_of(60, 4)
    domains = torch.randint(3, (60,), generator=torch.Generator().manual_seed(4))
    split = Split(data.test.inputs, data.test.labels, domains)
    result = evaluate(model, ClientData(None, split, (0.0,), (1.0,)), batch_size=7)
    wanted = torch.zeros(3, 4, 4, dtype=torch.int64)
    for x, label, domain in zip(split.inputs, split.labels.tolist(), domains.tolist(), strict=True):
        wanted[domain, label, int(model(x[None])[0].argmax())] += 1
    assert torch.equal(confusion_of(result), wanted)
    assert result.accuracy == evaluate(model, data, batch_size=7).accuracy


def test_cells_by_hand():
    assert TWO_DOMAINS.cells.tolist() == [[0, 0, 0, 3], [0, 0, 1, 1], [0, 1, 1, 2], [1, 1, 0, 5], [1, 1, 1, 1]]
    empty = Evaluation(torch.zeros(0, 4, dtype=torch.int64), 3, 0.0)
    assert (empty.examples, empty.accuracy) == (0, 0.0)
    assert empty.class_accuracy() == [None] * 3


def test_results_together_weigh_the_loss_by_samples():
    one = evaluation_of(torch.tensor([[[1, 0], [1, 0]]]), 2.0)
    for total in (Evaluation.together([one, TWO_DOMAINS]), Evaluation.together([TWO_DOMAINS, one])):
        assert confusion_of(total).tolist() == [[[4, 1], [1, 2]], [[0, 0], [5, 1]]]
        assert total.loss == pytest.approx((2 * 2.0 + 12 * 0.5) / 14)
        assert total.class_accuracy() == [4 / 5, 3 / 9]


def test_a_thousand_classes_take_the_memory_of_their_samples():
    model, data = model_of(3, 1000), data_of(20, 1000)
    assert len(evaluate(model, data, batch_size=8).cells) <= 20

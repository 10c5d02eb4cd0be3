"""Logit adjustment: the offsets by hand, and what they do to a client's loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from client_app.visit import visit
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.logit_adjustment import logit_offsets
from fedhpro_flwr.losses import Anchors, hpcl
from fedhpro_flwr.methods import build_method


def test_offsets_by_hand():
    """Counts 5, 2 and 0 are 6, 3 and 1 with the sample that each class is given, of 10."""
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 0])
    offsets = logit_offsets(labels, 3, 0.5)
    assert offsets is not None
    torch.testing.assert_close(offsets, torch.tensor([0.5 * math.log(share) for share in (0.6, 0.3, 0.1)]))


def test_no_strength_is_no_offsets():
    assert logit_offsets(torch.tensor([0, 1]), 2, 0.0) is None


def test_balanced_classes_are_moved_alike():
    offsets = logit_offsets(torch.arange(12) % 4, 4, 1.0)
    assert offsets is not None
    assert offsets.tolist() == [offsets[0]] * 4


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, got 0\.\.3"):
        logit_offsets(torch.tensor([0, 3]), 3, 1.0)


def test_how_often_a_class_is_seen_teaches_the_model_nothing():
    """Where the logits say nothing, the bias of each class is pulled by what the added samples are worth alone."""
    labels = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    logits = torch.zeros(1000, 3, requires_grad=True)
    offsets = logit_offsets(labels, 3, 1.0)
    assert offsets is not None
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits + offsets, labels), logits)
    counts = torch.tensor([700.0, 200.0, 100.0])
    expected = (counts + 1) / 1003 - counts / 1000
    torch.testing.assert_close(gradient.sum(0), expected, rtol=1e-3, atol=1e-7)
    assert float(gradient.sum(0).abs().max()) < 1.2e-3  # without the offsets it is 0.37


@pytest.mark.parametrize("form", ["paper", "reference"])
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_hpcl_takes_them_into_its_sum(form, margin):
    draw = torch.Generator().manual_seed(2)
    z, vectors = torch.randn(6, 5, generator=draw), torch.randn(4, 3, 5, generator=draw)
    labels, offsets = torch.arange(6) % 4, torch.tensor([0.1, -2.0, 0.5, 1.0])
    anchors, temperature = Anchors.of(vectors), 0.5
    s = F.normalize(z, dim=1) @ anchors.directions.T
    expected = 0.0
    for row, label in zip(s, labels.tolist(), strict=True):
        terms = [math.exp(float(row[j]) / temperature + float(offsets[j])) for j in range(4)]
        own, others = terms[label], sum(terms) - terms[label]
        if form == "paper":
            expected += math.log(1 + others * math.exp(margin / temperature) / own) / 6
        else:
            expected += math.log((own + others + margin) / own) / 36
    loss = hpcl(z, labels, anchors, temperature=temperature, margin=margin, form=form, offsets=offsets)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_margins_of_pairs_and_offsets_add_up():
    draw = torch.Generator().manual_seed(3)
    z, anchors = torch.randn(6, 5, generator=draw), Anchors.of(torch.randn(4, 3, 5, generator=draw))
    labels, offsets = torch.arange(6) % 4, torch.tensor([0.1, -2.0, 0.5, 1.0])
    pairs = 0.3 * (1 - torch.eye(4))
    options = {"temperature": 0.5, "offsets": offsets}
    torch.testing.assert_close(
        hpcl(z, labels, anchors, margin=pairs, **options), hpcl(z, labels, anchors, margin=0.3, **options)
    )


@pytest.mark.parametrize("correction", ["none", "control-variates"])
def test_a_visit_adjusts_both_losses(make, tmp_path, monkeypatch, correction):
    """One step on CE + HPCL whose logits have the same offsets, of the client's own counts: 4, 4, 0 and 4 of 12."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = make.config(
        "fedhpro", losses__correction=correction, losses__logit_adjustment=0.5, losses__hpal="off",
        losses__margin="none", losses__temperature=0.5, hyper_prototypes__matching_steps=0, local__lr=0.1,
    )  # fmt: skip
    method, data, start = build_method(config), make.data(), make.model()
    sent = method.broadcast(method.start(start.state_dict()))
    by_hand = copy.deepcopy(start)
    by_hand.train()
    z = by_hand.encoder((data.train.inputs - 0.1) / 2.0)
    offsets = 0.5 * torch.tensor([5 / 16, 5 / 16, 1 / 16, 5 / 16]).log()
    s = F.normalize(z, dim=1) @ Anchors.of(sent["hyper-prototypes"]).directions.T
    labels = data.train.labels
    loss = F.cross_entropy(by_hand.head(z) + offsets, labels) + F.cross_entropy(s / 0.5 + offsets, labels)
    wanted = dict(by_hand.state_dict())
    gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
    for (name, value), gradient in zip(by_hand.named_parameters(), gradients, strict=True):
        wanted[name] = value.detach() - 0.1 * gradient

    update = visit(make.model(9), data, make.received(config, start, sent))
    for name, value in wanted.items():
        torch.testing.assert_close(update.model[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert update.metrics["train-loss"] == pytest.approx(float(loss.detach()), rel=1e-5)


def test_other_methods_are_not_adjusted(make):
    config = make.config("fedavg", losses__logit_adjustment=1.0)
    plain = make.config("fedavg")
    updates = [visit(make.model(9), make.data(), make.received(each, make.model())) for each in (config, plain)]
    assert all(torch.equal(updates[0].model[name], updates[1].model[name]) for name in updates[0].model)


def test_a_negative_strength_is_refused():
    with pytest.raises(ConfigError, match=r"losses\.logit-adjustment"):
        RunConfig.parse({"losses.logit-adjustment": -0.5})

"""The local losses and their gradients with respect to the features [R.hpcl] [R.hpal]."""

import torch
from torch.nn import functional as F

from fedhpro_flwr.head import Head
from fedhpro_flwr.losses import Anchors, hpal, hpcl

GOLDEN = "local_losses_s*.npz"


def inputs(golden, dtype):
    z = golden.tensor("features", dtype).requires_grad_()
    return z, golden.tensor("labels", torch.int64), Anchors.of(golden.tensor("hp", dtype))


def check(golden, loss, z, name, precision):
    golden.check(loss, f"{name}_loss_{precision}")
    (gradient,) = torch.autograd.grad(loss, z)
    golden.check(gradient, f"{name}_grad_{precision}")


def test_anchors(golden, precision, dtype):
    _, _, anchors = inputs(golden, dtype)
    golden.check(anchors.directions, f"hp_class_norm_mean_{precision}")


def test_hpcl(golden, precision, dtype):
    z, labels, anchors = inputs(golden, dtype)
    for i, margin in enumerate(golden.arrays["margins"].tolist()):
        options = {"temperature": golden.number("tau"), "margin": margin, "form": "reference"}
        check(golden, hpcl(z, labels, anchors, **options), z, f"hpcl{i}", precision)
        one_by_one = [hpcl(z[[j]], labels[[j]], anchors, **options) for j in range(len(labels))]
        golden.check(torch.stack(one_by_one), f"hpcl{i}_persample_{precision}")


def test_hpal(golden, precision, dtype):
    z, labels, anchors = inputs(golden, dtype)
    check(golden, hpal(z, labels, anchors, form="reference"), z, "hpal", precision)


def test_total(golden, precision, dtype):
    z, labels, anchors = inputs(golden, dtype)
    head = Head(golden.tensor("W", dtype), golden.tensor("b", dtype))
    contrast = hpcl(z, labels, anchors, temperature=golden.number("tau"), form="reference")
    total = F.cross_entropy(head.logits(z), labels) + contrast + hpal(z, labels, anchors, form="reference")
    check(golden, total, z, "total", precision)

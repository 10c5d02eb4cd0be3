"""The client's margin as the reference reads it [R.margin]."""

import torch

from fedhpro_flwr.losses import client_margin

GOLDEN = "margin_s*.npz"


def test_margin(golden, precision, dtype):
    features, labels = golden.tensor("features", dtype), golden.tensor("labels", torch.int64)
    margin = client_margin(features, labels, golden.integer("num_classes"), "inner")
    golden.check(margin, f"margin_{precision}")

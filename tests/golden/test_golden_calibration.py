"""Training a head on its prototypes against the reference's torch loop [R.c4]."""

import pytest
import torch

from fedhpro_flwr.calibration import retrain_head
from fedhpro_flwr.head import Head

GOLDEN = "classifier_retrain_s*.npz"


@pytest.mark.parametrize("prefix", ["", "fullbatch_"])
def test_retrain_head(golden, precision, dtype, prefix):
    prototypes = golden.tensor("F", dtype)
    head = retrain_head(
        prototypes,
        Head(golden.tensor("W0", dtype), golden.tensor("b0", dtype)),
        golden.tensor("order", torch.int64),
        batch_size=prototypes[..., 0].numel() if prefix else golden.integer("batch_size"),
        lr=golden.number("lr"),
    )
    golden.check(head.weight, f"{prefix}W_{precision}")
    golden.check(head.bias, f"{prefix}b_{precision}")

"""Matching distances and their closed-form gradients against the reference's loops."""

import pytest
from head_distance_gradient import head_distance_gradient

from fedhpro_flwr.gradient_matching import matching_distance, matching_gradient
from fedhpro_flwr.head_matching import HeadGradients, head_distance

GOLDEN = "match_loss_s*.npz"


@pytest.mark.parametrize(("name", "distance"), [("matching", "coordinate"), ("cos", "cosine"), ("mse", "mse")])
def test_vector_distance(golden, precision, dtype, name, distance):
    synthetic = golden.tensor("hp_gw_syn", dtype)  # [K, D], one gradient a prototype
    g, target = synthetic.mean(dim=0), golden.tensor("hp_gw_real", dtype)
    golden.check(matching_distance(g, target, distance), f"hp_{name}_loss_{precision}")
    share = matching_gradient(g, target, distance) / len(synthetic)  # each prototype has 1/K of the mean
    golden.check(share.expand_as(synthetic), f"hp_{name}_grad_{precision}")


@pytest.mark.parametrize(("name", "distance"), [("matching", "rowwise"), ("cos", "cosine"), ("mse", "mse")])
def test_head_distance(golden, precision, dtype, name, distance):
    def gradients(kind):
        weight, bias = golden.tensor(f"meta_gw_{kind}", dtype), golden.tensor(f"meta_gb_{kind}", dtype)
        return HeadGradients(weight[None], bias[None])

    g, target = gradients("syn"), gradients("real")
    golden.check(head_distance(g, target, distance)[0], f"meta_{name}_loss_{precision}")
    gradient = head_distance_gradient(g, target, distance)
    golden.check(gradient.weight[0], f"meta_{name}_gradW_{precision}")
    golden.check(gradient.bias[0], f"meta_{name}_gradb_{precision}")

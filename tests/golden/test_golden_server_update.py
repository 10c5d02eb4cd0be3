"""The server's updates of hyper-prototypes [R.c5] and of the head's prototypes [R.c3], from several clients' payloads.

The files hold a result for several distances and numbers of steps, named in their keys.
"""

import re

import torch

from fedhpro_flwr.aggregation import class_mean
from fedhpro_flwr.calibration import match_prototypes
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes

GOLDEN = "server_update_s*.npz"
VECTOR_DISTANCE = {"matching": "coordinate", "cos": "cosine", "mse": "mse"}
HEAD_DISTANCE = {"matching": "rowwise", "cos": "cosine", "mse": "mse"}


def results(golden, kind, precision):
    """(key, distance's name, steps) of every result of a kind, "hp" or "meta", in the file."""
    pattern = re.compile(rf"{kind}_(matching|cos|mse)_(\d+)_{precision}")
    found = ((key, pattern.fullmatch(key)) for key in golden.arrays)
    return [(key, match[1], int(match[2])) for key, match in found if match]


def over_clients(golden, name, dtype):
    """The mean of what clients sent by class, and its mask; name: "feat", "W" or "b"."""
    sent = golden.tensor(f"client_{name}_grad", dtype)  # [N, C, ...]
    ids = [mask.nonzero().squeeze(1) for mask in golden.tensor("client_mask", torch.bool)]
    rows = [client[own] for client, own in zip(sent, ids, strict=True)]
    return class_mean(ids, rows, [torch.ones_like(own) for own in ids], sent.shape[1])


def test_hyper_prototypes(golden, precision, dtype):
    head = Head(golden.tensor("W_hp", dtype), golden.tensor("b_hp", dtype))
    start = HyperPrototypes(golden.tensor("H0", dtype))
    target, class_mask = over_clients(golden, "feat", dtype)
    assert torch.equal(class_mask, golden.tensor("client_mask", torch.bool).any(dim=0))
    for key, name, steps in results(golden, "hp", precision):
        moved = start.update(
            target,
            class_mask,
            head,
            steps=steps,
            lr=golden.number("lr"),
            distance=VECTOR_DISTANCE[name],
            virtual_scale="mean-of-mean",
        ).vectors
        assert torch.equal(moved[~class_mask], start.vectors[~class_mask])
        if name != "matching":
            golden.check(moved, key)
        elif precision == "f64":  # this distance amplifies rounding from step to step
            tolerance = golden.tolerance(key)
            golden.check(moved, key, tolerance=max(tolerance, 1e-6) if steps > 1 else tolerance)
        else:  # and in float32 so much that the reference's own result says nothing
            assert moved.isfinite().all()


def test_head_prototypes(golden, precision, dtype):
    head = Head(golden.tensor("W_meta", dtype), golden.tensor("b_meta", dtype))
    start = golden.tensor("F0", dtype)
    weight, class_mask = over_clients(golden, "W", dtype)
    bias, _ = over_clients(golden, "b", dtype)
    for key, name, steps in results(golden, "meta", precision):
        moved = match_prototypes(
            start,
            head,
            weight,
            bias,
            class_mask,
            steps=steps,
            lr=golden.number("lr"),
            distance=HEAD_DISTANCE[name],
        )
        assert torch.equal(moved[~class_mask], start[~class_mask])
        golden.check(moved, key)


def test_every_file_has_results(golden):
    assert results(golden, "hp", "f64") and results(golden, "meta", "f64")

import math

import pytest
import torch

from fedhpro_flwr.aggregation import class_mean, weighted_mean


def sent(ids, rows, counts=None):
    ids = torch.tensor(ids, dtype=torch.int64)
    counts = torch.ones_like(ids) if counts is None else torch.tensor(counts)
    return ids, torch.as_tensor(rows), counts


def mean_of(clients, num_classes, **options):
    """`class_mean` of (ids, rows, counts), a client each."""
    return class_mean(*(list(each) for each in zip(*clients, strict=True)), num_classes, **options)


# --- models


def test_weighted_mean_by_hand():
    states = [
        {
            "w": torch.tensor([1.0, 2.0]),
            "bn.running_mean": torch.tensor(4.0),
            "bn.num_batches_tracked": torch.tensor(7),
        },
        {
            "w": torch.tensor([5.0, 0.0]),
            "bn.running_mean": torch.tensor(8.0),
            "bn.num_batches_tracked": torch.tensor(4),
        },
    ]
    mean = weighted_mean(states, [1, 3])
    assert list(mean) == list(states[0])
    assert mean["w"].tolist() == [4.0, 0.5]
    assert mean["bn.running_mean"].item() == 7.0
    assert mean["bn.num_batches_tracked"].item() == 7 and mean["bn.num_batches_tracked"].dtype == torch.int64


def test_weighted_mean_is_the_double_loop():
    generator = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(3, 2, generator=generator)} for _ in range(5)]
    weights = [3, 1, 4, 1, 5]
    mean = weighted_mean(states, weights)["w"]
    for i in range(3):
        for j in range(2):
            exact = math.fsum(n * float(s["w"][i, j]) for n, s in zip(weights, states, strict=True)) / 14
            assert mean[i, j].item() == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weighted_mean_keeps_the_dtype(dtype):
    states = [{"w": torch.ones(2, dtype=dtype)}, {"w": torch.full((2,), 3.0, dtype=dtype)}]
    assert weighted_mean(states, [1, 1])["w"].tolist() == [2.0, 2.0]
    assert weighted_mean(states, [1, 1])["w"].dtype == dtype


def test_weighted_mean_leaves_the_clients_alone():
    states = [
        {"w": torch.ones(2, requires_grad=True), "n": torch.tensor(1)},
        {"w": torch.zeros(2), "n": torch.tensor(2)},
    ]
    mean = weighted_mean(states, [1, 0])
    mean["w"].fill_(9.0)
    mean["n"].fill_(9)
    assert states[0]["w"].tolist() == [1.0, 1.0] and states[1]["n"].item() == 2
    assert not mean["w"].requires_grad


# --- class gradients


def test_class_mean_by_hand():
    clients = [
        sent([0, 2], [[1.0, 1.0], [2.0, 0.0]], [10, 30]),
        sent([2], [[6.0, 4.0]], [10]),
        sent([], torch.zeros(0, 2)),
    ]
    mean, mask = mean_of(clients, 4)
    assert mean.tolist() == [[1.0, 1.0], [0.0, 0.0], [4.0, 2.0], [0.0, 0.0]]
    assert mask.tolist() == [True, False, True, False]
    by_counts = mean_of(clients, 4, weighting="counts")
    assert by_counts.mean.tolist() == [[1.0, 1.0], [0.0, 0.0], [3.0, 1.0], [0.0, 0.0]]
    assert torch.equal(by_counts.class_mask, mask)


def test_class_mean_is_the_double_loop():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3,), (5, 3), (5,)):  # of gradients with respect to features, W and b
        clients = []
        for ids in ([0, 3], [1, 3, 4], [3], [0, 4]):
            counts = torch.randint(1, 9, (len(ids),), generator=generator).tolist()
            clients.append(sent(ids, torch.randn(len(ids), *shape, generator=generator), counts))
        for weighting in ("clients", "counts"):
            mean, mask = mean_of(clients, 5, weighting=weighting)
            assert mask.tolist() == [True, True, False, True, True]
            for c in range(5):
                total, weight = torch.zeros_like(mean[c], dtype=torch.float64), 0.0
                for class_ids, rows, counts in clients:
                    for p, sent_id in enumerate(class_ids.tolist()):
                        if sent_id == c:
                            n = int(counts[p]) if weighting == "counts" else 1
                            total, weight = total + n * rows[p].double(), weight + n
                torch.testing.assert_close(mean[c], (total / max(weight, 1)).float(), atol=1e-6, rtol=0)

"""Clients that move against the median client: found by their direction, whatever their length."""

import pytest
import torch

from fedhpro_flwr.records import Update
from fedhpro_flwr.server.contrary import agreement, without_contrary
from fedhpro_flwr.server.replies import Collected

SENT = {
    "head.weight": torch.tensor([1.0, 1.0]),
    "encoder.w": torch.tensor([2.0]),
    "bn.running_var": torch.tensor([1.0]),
    "n": torch.tensor(0),
}


def moved(by, last=0.0, variance=100.0):
    return {
        "head.weight": SENT["head.weight"] + torch.tensor(by),
        "encoder.w": SENT["encoder.w"] + last,
        "bn.running_var": SENT["bn.running_var"] + variance,
        "n": torch.tensor(9),
    }


def test_cosines_by_hand():
    """The median of (3, 4), (1, 2), (1, 0), (-5, 1) and (2, 2) is (1, 2); the statistics are not looked at."""
    moves = [[3.0, 4.0], [1.0, 2.0], [1.0, 0.0], [-5.0, 1.0], [2.0, 2.0]]
    wanted = [11 / (5 * 5**0.5), 1.0, 1 / 5**0.5, -3 / (26 * 5) ** 0.5, 6 / (8 * 5) ** 0.5]
    assert agreement([moved(move) for move in moves], SENT) == pytest.approx(wanted)


@pytest.mark.parametrize("factor", [-1e-3, -1.0, -1e8])
def test_turned_around_is_found_at_any_length(factor):
    draw = torch.Generator().manual_seed(0)
    honest = [moved((torch.randn(2, generator=draw) * 0.3 + 1).tolist(), 1.0) for _ in range(8)]
    hostile = [moved([factor * 1.0, factor * 0.8], factor) for _ in range(2)]
    cosines = agreement([*hostile, *honest], SENT)
    assert max(cosines[:2]) < -0.9 and min(cosines[2:]) > 0.5


def test_those_who_are_set_aside_are_named():
    updates = [Update(k, 1, moved(move), {}) for k, move in ((1, [1.0, 0.0]), (4, [-2.0, 0.0]), (6, [1.0, 0.0]))]
    kept = without_contrary(Collected(updates, ["client 0: did not reply"]), SENT)
    assert list(kept.good) == [updates[0], updates[2]]
    assert kept.set_aside == [
        "client 0: did not reply",
        "client 4: its model moved against the median client's (cosine -1.00)",
    ]


def test_nobody_is_contrary_to_nothing():
    assert agreement([], SENT) == []
    assert agreement([SENT, SENT], SENT) == [0.0, 0.0]
    assert agreement([{}, {}], {}) == [0.0, 0.0]
    assert len(without_contrary(Collected([Update(0, 1, moved([1.0, 1.0]), {})], []), SENT).good) == 1

"""Whatever the clients' numbers: order does not matter, equal clients are their own middle, an outlier is not heard."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedhpro_flwr.robust import clipped_models, cut_of, middle_mean, middle_model, update_norms

NUMBERS = st.floats(-(2.0**20), 2.0**20, width=32)
CLIENTS = st.integers(1, 9).flatmap(lambda n: arrays.arrays("f4", (n, 4), elements=NUMBERS))
STATISTICS = st.sampled_from(["median", "trimmed-mean"])
TRIMS = st.floats(0.01, 0.49)


def models(rows):
    return [{"w": torch.from_numpy(row.copy()), "n": torch.tensor(int(row[0]))} for row in rows]


@given(CLIENTS, STATISTICS, TRIMS, st.randoms(use_true_random=False))
def test_the_order_of_clients_changes_no_bit(rows, statistic, trim, random):
    before = middle_model(models(rows), statistic, trim)
    order = list(range(len(rows)))
    random.shuffle(order)
    after = middle_model(models(rows[order]), statistic, trim)
    # Zeros of both signs are equal and sort in the order they came.
    assert torch.equal(before["w"], after["w"]) and torch.equal(before["n"], after["n"])


@given(arrays.arrays("f4", 4, elements=NUMBERS), st.integers(1, 9), STATISTICS, TRIMS)
def test_equal_clients_are_their_own_middle(row, clients, statistic, trim):
    middle = middle_model(models([row] * clients), statistic, trim)
    assert torch.equal(middle["w"], torch.from_numpy(row))


@given(CLIENTS, st.sampled_from([1e9, -1e9]), STATISTICS, TRIMS)
def test_one_outlier_moves_the_middle_no_further_than_the_others_reach(rows, hostile, statistic, trim):
    if len(rows) < 3:
        return
    attacked = rows.copy()
    attacked[0] = hostile
    middle = middle_model(models(attacked), statistic, trim)["w"]
    others = torch.from_numpy(rows[1:])
    assert bool((middle >= others.amin(dim=0)).all()) and bool((middle <= others.amax(dim=0)).all())


@given(CLIENTS, STATISTICS, TRIMS)
def test_more_clients_that_do_not_hold_a_class_change_nothing(rows, statistic, trim):
    values = torch.from_numpy(rows)[:, None]
    held = torch.ones(len(rows), 1, dtype=torch.bool)
    absent = torch.cat([values, torch.full((3, 1, 4), 7.0)]), torch.cat([held, torch.zeros(3, 1, dtype=torch.bool)])
    cut = cut_of(statistic, held.sum(dim=0), trim)
    assert torch.equal(middle_mean(*absent, cut), middle_mean(values, held, cut))


@given(CLIENTS, st.floats(1e-3, 1e3))
def test_a_clipped_update_is_no_longer_than_the_bound(rows, longest):
    sent = {"w": torch.ones(4), "n": torch.tensor(0)}
    for before, after in zip(models(rows), clipped_models(models(rows), sent, longest=longest), strict=True):
        rounding = 1e-6 * max(1.0, float(before["w"].abs().max()))  # of a float32 near w
        assert update_norms(after, sent)[0] <= min(longest, update_norms(before, sent)[0]) + rounding
        assert torch.equal(before["n"], after["n"])

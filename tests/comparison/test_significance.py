"""The paired test and Holm's correction, against numbers worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.comparison.significance import Paired, holm, paired


def test_the_paired_t_test_of_three_seeds():
    found = paired([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
    # Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3); with two degrees of freedom p = 1 - t / sqrt(t^2 + 2).
    assert (found.difference, found.pairs, found.better) == (2.0, 3, 3)
    assert found.p_value == pytest.approx(1 - math.sqrt(12 / 14))


def test_less_may_be_better():
    assert paired([1.0, 5.0, 2.0], [2.0, 3.0, 4.0], more_is_better=False).better == 2
    assert paired([1.0, 5.0, 2.0], [2.0, 3.0, 4.0]).better == 1


def test_a_tie_is_better_in_neither_direction():
    for more_is_better in (True, False):
        assert paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], more_is_better=more_is_better).better == 0


def test_the_same_accuracies_in_another_order_are_a_tie():
    ahead, behind = (100 * (a + b + c) / 3 for a, b, c in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)))
    assert ahead > behind  # by rounding alone
    for values, baseline in (([ahead, 50.0, 60.0], [behind, 50.0, 60.0]), ([behind, 50.0, 60.0], [ahead, 50.0, 60.0])):
        found = paired(values, baseline)
        assert (found.better, found.p_value) == (0, 1.0)
        assert paired(values, baseline, more_is_better=False).better == 0


@pytest.mark.parametrize(
    ("values", "baseline", "found"),
    [
        ([], [], Paired(None, 0, 0, None)),
        ([2.0, 4.0], [1.0, 1.0], Paired(2.0, 2, 2, None)),  # too few
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], Paired(0.0, 3, 0, 1.0)),
        ([2.0, 3.0, 4.0], [1.0, 2.0, 3.0], Paired(1.0, 3, 3, None)),  # no deviation to divide by
        ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], Paired(-1.0, 3, 0, None)),
    ],
)
def test_where_there_is_nothing_to_test(values, baseline, found):
    assert paired(values, baseline) == found


def test_equal_differences_up_to_rounding_are_equal():
    assert paired([90.1, 80.2, 70.3], [90.0, 80.1, 70.2]).p_value is None


def test_holm_by_hand():
    # 0.01 * 3, then 0.02 * 2 and 0.03 * 1, which may not fall below the one before.
    assert holm([0.03, None, 0.01, 0.02]) == [pytest.approx(0.06), None, pytest.approx(0.04), pytest.approx(0.06)]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_corrects_upwards_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    assert [q for _, q in sorted(zip(p_values, corrected, strict=True))] == sorted(corrected)

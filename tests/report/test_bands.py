"""Mean and deviation over seeds."""

from __future__ import annotations

import statistics

import pytest

from fedhpro_flwr.report.bands import Spread, band, spread_by_name


def test_a_spread_by_hand():
    assert Spread.of([1.0, None, 3.0]) == Spread(2.0, pytest.approx(2**0.5))
    assert Spread.of([4.0]) == Spread(4.0, None)
    assert Spread.of([None]) is None
    spread = Spread(2.0, 0.5)
    one = Spread(2.0, None)
    assert (spread.low, spread.high, one.low, one.high) == (1.5, 2.5, 2.0, 2.0)


def test_a_band_over_curves_of_different_length():
    curves = [[(1, 0.0), (2, 1.0), (4, 5.0)], [(1, 2.0), (2, 4.0)], [(2, 7.0)]]
    assert band(curves) == [
        (1, Spread(1.0, statistics.stdev([0.0, 2.0]))),
        (2, Spread(4.0, 3.0)),
        (4, Spread(5.0, None)),
    ]
    assert band([]) == band([[]]) == []


def test_names_keep_their_order_and_may_be_missing():
    spreads = spread_by_name([{"b": 1.0, "a": None}, {"c": 2.0, "b": 3.0}])
    assert list(spreads) == ["b", "c"]
    assert (spreads["b"].mean, spreads["b"].deviation, spreads["c"].deviation) == (2.0, pytest.approx(2**0.5), None)

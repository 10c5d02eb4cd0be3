"""Clients without a node of their own, when nodes come and go: only those move that must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.server.stand_ins import dealt, dealt_again


def test_before_the_first_round_clients_are_dealt_in_turn():
    assert dealt(range(5), [7, 9]) == {0: 7, 1: 9, 2: 7, 3: 9, 4: 7}


@pytest.mark.parametrize(
    ("players", "owners", "wanted"),
    [
        ([7, 9], [], {0: 7, 1: 9, 2: 7, 3: 9}),  # nothing happened
        ([7], [], {0: 7, 1: 7, 2: 7, 3: 7}),  # 9 is gone
        ([7, 8], [], {0: 7, 1: 8, 2: 7, 3: 8}),  # 8 came for 9
        ([7, 8, 9], [], {0: 7, 1: 9, 2: 7, 3: 8}),  # 8 came too: it takes one client
        ([5, 7], [5], {0: 7, 1: 5, 2: 7, 3: 5}),  # 9 is gone, and 5 has a client of its own
    ],
)
def test_a_client_moves_only_where_it_must(players, owners, wanted):
    assert dealt_again(range(4), players, {0: 7, 1: 9, 2: 7, 3: 9}, owners) == wanted


@given(
    before=st.dictionaries(st.integers(0, 9), st.integers(50, 55), max_size=10),
    players=st.lists(st.integers(50, 59), min_size=1, unique=True),
)
def test_everybody_is_played_by_somebody_who_is_there_and_the_load_is_even(before, players):
    now = dealt_again(range(10), players, before, [])
    load = [list(now.values()).count(player) for player in players]
    assert list(now) == list(range(10)) and sum(load) == 10
    assert max(load) - min(load) <= 1

"""Which of its rounds a client keeps: wherever the server is resumed, what it needs is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.client.kept_rounds import KEPT_CHECKPOINTS, checkpoints_before, needed


@pytest.mark.parametrize(
    ("server_round", "every", "resumed_at", "expected"),
    [
        (1, 1, (), []),
        (2, 1, (), [1]),
        (9, 1, (), [7, 8]),
        (10, 5, (), [5]),
        (11, 5, (), [5, 10]),
        (9, 0, (), []),
        (13, 5, (12,), [10, 12]),  # the last round of a run that is made longer has a checkpoint too
        (16, 5, (12,), [12, 15]),
        (21, 5, (12,), [15, 20]),
    ],
)
def test_where_a_server_can_be_resumed(server_round, every, resumed_at, expected):
    assert checkpoints_before(server_round, every, resumed_at) == expected


def test_a_client_of_every_round_keeps_three_and_without_checkpoints_two():
    assert needed([1, 2, 3, 4], 4, checkpoints_before(4, 1)) == {2, 3, 4}
    assert needed([1, 2, 3, 4], 4, checkpoints_before(4, 0)) == {3, 4}


@given(
    every=st.integers(1, 4),
    plays=st.lists(st.booleans(), min_size=25, max_size=25),
    kills=st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=6),
)
def test_a_resumed_server_finds_what_its_client_had_kept(every, plays, kills):
    """A client that takes part in some rounds; a server killed in some, its newest checkpoint damaged or not."""
    kept, checkpoints, resumed_at, server_round = set(), [], (), 1
    while server_round <= len(plays):
        kill = next((kill for kill in kills if kill[0] == server_round), None)
        if plays[server_round - 1]:
            earlier = {number for number in kept if number < server_round}  # those of an abandoned attempt are void
            written = checkpoints_before(server_round, every, resumed_at)
            kept = needed(earlier | {server_round}, server_round, written) & (earlier | {server_round})
        if kill:
            kills.remove(kill)
            at = (checkpoints[:-1] if kill[1] else checkpoints)[-1:]
            checkpoints = [number for number in checkpoints if number <= at[0]] if at else []
            if not at:
                break
            resumed_at = (*resumed_at, at[0])
            wanted = [number for number in range(1, at[0] + 1) if plays[number - 1]][-1:]
            assert set(wanted) <= kept
            assert not set(wanted) or max(number for number in kept if number <= at[0]) == wanted[0]
            server_round = at[0] + 1
            continue
        if server_round % every == 0 or server_round == len(plays):
            checkpoints = [*checkpoints, server_round][-KEPT_CHECKPOINTS:]
        server_round += 1

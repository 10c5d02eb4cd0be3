"""Which visits count, which may still be asked for, and that a client finds what any server goes on from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.runs.checkpoints import KEPT_CHECKPOINTS
from fedhpro_flwr.visits import NAME, Visits, new_name


def test_a_name_is_of_its_round_and_of_one_attempt():
    names = {new_name(3) for _ in range(100)}
    assert len(names) == 100
    assert all(NAME.fullmatch(name) and name.startswith("3-") for name in names)


def test_the_last_visit_that_counted_is_gone_on_from():
    visits = Visits()
    assert (visits.after(0), visits.needed(0)) == ("", "")
    visits.count("1-a", [0, 2])
    visits.count("2-b", [2])
    assert [visits.after(client) for client in range(3)] == ["1-a", "", "2-b"]


def test_what_the_checkpoints_hold_is_needed_too():
    visits = Visits()
    for number, name in enumerate(["1-a", "2-b", "3-c", "4-d"], start=1):
        visits.count(name, [0])
        if number != 4:
            visits.keep([number - 1, number][-number:])
    assert visits.needed(0) == "2-b 3-c 4-d"
    assert visits.saved == {2: {0: "2-b"}, 3: {0: "3-c"}}
    assert visits.needed(1) == ""


@given(
    every=st.integers(1, 4),
    plays=st.lists(st.booleans(), min_size=25, max_size=25),
    lost=st.lists(st.booleans(), min_size=25, max_size=25),
    kills=st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=6),
    longer=st.integers(1, 25),
)
def test_a_resumed_server_finds_what_its_client_had_kept(every, plays, lost, kills, longer):
    """A client that takes part in some rounds and whose replies are lost in some; a server that is killed in some
    rounds, its newest checkpoint damaged or not; a run that is made longer after a round of no checkpoint's turn."""
    files, checkpoints, visits, server_round, attempt = {}, {}, Visits(), 1, 0
    kills = list(kills)
    state = 0  # what the client has learned in the visits that counted
    states = {}
    while server_round <= len(plays):
        attempt += 1
        if plays[server_round - 1]:
            name, after, needed = f"{server_round}-{attempt}", visits.after(0), visits.needed(0).split()
            began_with = files[after] if after else 0
            assert began_with == state
            files = {key: value for key, value in files.items() if key in needed} | {name: began_with + attempt}
            if not lost[server_round - 1]:
                visits.count(name, [0])
                state = files[name]
        if (kill := next((kill for kill in kills if kill[0] == server_round), None)) is not None:
            kills.remove(kill)
            there = sorted(checkpoints)
            if kill[1] and len(there) > 1:
                checkpoints.pop(there.pop())
            at = there[-1] if there else 0
            visits = Visits(dict(checkpoints[at]) if at else {}, dict(checkpoints))
            state, server_round = states.get(at, 0), at + 1
            continue
        if server_round % every == 0 or server_round in (longer, len(plays)):
            checkpoints[server_round], states[server_round] = dict(visits.counted), state
            rounds = sorted(checkpoints)[-KEPT_CHECKPOINTS:]
            checkpoints = {number: checkpoints[number] for number in rounds}
            visits.keep(rounds)
        server_round += 1


@pytest.mark.parametrize("wrong", ["", "3", "3-0011223g", "a-00112233", "3-00112233\n", "../3-00112233"])
def test_what_is_no_name(wrong):
    assert NAME.fullmatch(wrong) is None

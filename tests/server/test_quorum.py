"""Too few good replies end the run: how few are too few, and what the user is told."""

import pytest
from flwr.app import Error, Message
from meddling_grid import Meddling, Played, constant_app

from fedhpro_flwr.server.replies import Collected, QuorumError, together


def test_too_few_good_replies_end_the_run_with_round_and_clients():
    def meddle(kind, turn, partition, message, reply):
        if kind == "train" and turn == 2 and partition in (1, 3):
            return [] if partition == 1 else [Message(Error(code=1, reason="on fire"), reply_to=message)]
        return [reply]

    with pytest.raises(QuorumError) as lost:
        Played(Meddling(meddle=meddle), clients__quorum=0.75)
    assert str(lost.value) == (
        "round 2: 2 of 4 clients replied well, clients.quorum = 0.75 needs 3; "
        "client 1: did not reply; client 3: on fire"
    )
    assert Played(Meddling(meddle=meddle), clients__quorum=0.5).reports[1].set_aside == [
        "client 1: did not reply",
        "client 3: on fire",
    ]


def test_nobody_replies():
    with pytest.raises(QuorumError, match=r"^round 1: 0 of 4 clients replied well"):
        Played(Meddling(meddle=lambda *_: []), clients__quorum=0.01)


@pytest.mark.parametrize(("quorum", "needed"), [(0.28, 7), (0.29, 8), (1.0, 25), (0.001, 1), (1e-11, 1)])
def test_the_quorum_is_rounded_up_but_not_by_the_error_of_floats(quorum, needed):
    def run(replying):
        grid = Meddling(
            constant_app(), 25, lambda kind, turn, partition, message, reply: [reply] if partition < replying else []
        )
        Played(grid, method__name="fedavg", rounds=1, partition__num_partitions=25, clients__quorum=quorum)

    run(needed)
    with pytest.raises(QuorumError, match=f"needs {needed};"):
        run(needed - 1)


def test_a_message_lives_as_long_as_its_reply_is_waited_for():
    """Flower drops it after twelve hours, unless told otherwise."""
    lives = {}

    def meddle(kind, turn, partition, message, reply):
        lives[kind] = message.metadata.ttl
        return [reply]

    Played(Meddling(meddle=meddle), rounds=1, clients__timeout=100_000)
    assert lives.keys() == {"train", "evaluate"} and min(lives.values()) > 100_000


def test_what_several_clients_say_alike_stands_in_the_sentence_once():
    said = ["client 0: full: disk", "client 2: late", "client 10: full: disk", "a reply to no message: from node 5"]
    assert together(said) == "clients 0, 10: full: disk; client 2: late; a reply to no message: from node 5"
    assert together(["client 3 has no data"]) == "client 3 has no data"


def test_a_sentence_names_ten_clients_and_ten_reasons():
    alike = [f"client {client}: late" for client in range(300)]
    assert together(alike) == "clients 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 290 more: late"
    each_its_own = [f"client {client}: error {client}" for client in range(300)]
    assert together(each_its_own) == "; ".join([*each_its_own[:10], "290 more"])


def test_the_log_names_ten_of_those_that_were_set_aside(caplog):
    with caplog.at_level("WARNING", logger="flwr"):
        Collected([], [f"client {client}: late" for client in range(12)]).tell("round 3")
    assert [record.getMessage() for record in caplog.records][9:] == [
        "round 3: set aside: client 9: late",
        "round 3: set aside: 2 more",
    ]

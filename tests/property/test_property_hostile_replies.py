"""10,000 malformed replies: none crashes the server, and the round ends as if nobody had sent them, bit for bit."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from logging import ERROR, getLogger
from pathlib import Path
from random import Random

import pytest
import torch
from confusion import evaluation_of
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from torch import nn

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.models import Model
from fedhpro_flwr.printable import LONGEST_REASON
from fedhpro_flwr.records import OwnTest, Tensors, Update, array_record, pack_update
from fedhpro_flwr.server.seats import Seats
from server_app.strategy import FedHProStrategy

SPEC = spec_from_file_location("malformed_replies", Path(__file__).with_name("malformed_replies.py"))
assert SPEC is not None and SPEC.loader is not None
SPEC.loader.exec_module(malformed_replies := module_from_spec(SPEC))
BREAKERS, MAY_BE_HARMLESS = malformed_replies.BREAKERS, malformed_replies.MAY_BE_HARMLESS

GOOD, BROKEN, ROUNDS = 3, 50, 200  # clients of a round, and rounds: 10,000 broken replies
CLASSES, WIDTH = 5, 3
SETTINGS = {
    "partition.num-partitions": GOOD + BROKEN,
    "clients.quorum": 0.01,
    "hyper-prototypes.prototypes-per-class": 2,
    "hyper-prototypes.matching-steps": 1,
}
Bits = dict[str, bytes]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = getLogger("flwr")
    before = logger.level
    logger.setLevel(ERROR)  # a warning for each of the replies
    yield
    logger.setLevel(before)


def new_model() -> Tensors:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(4, WIDTH), nn.BatchNorm1d(WIDTH))
        return Model(encoder, nn.Linear(WIDTH, CLASSES)).state_dict()


@cache
def packed(client: int) -> RecordDict:
    draw = torch.Generator().manual_seed(client)
    model = {
        name: value + 0.1 * torch.rand(value.shape, generator=draw) if value.is_floating_point() else value + 1
        for name, value in new_model().items()
    }
    own = {
        "class-gradients": torch.randn(2, WIDTH, generator=draw),
        "class-ids": torch.tensor([client % CLASSES, (client + 1) % CLASSES]),
        "class-counts": torch.tensor([3, 4]),
    }
    test = OwnTest(client, evaluation_of(torch.eye(CLASSES, dtype=torch.int64)[None], 0.5))
    return pack_update(Update(client, 8, model, own, {"train-loss": 1.5}, test))


def good_reply(client: int) -> RecordDict:
    return RecordDict({name: type(record)(dict(record)) for name, record in packed(client).items()})


def broken_reply(client: int, name: str, random: Random) -> RecordDict:
    records = dict(good_reply(client))
    BREAKERS[name](random, records)
    return RecordDict(records)


class AllThere:
    """Every client is there, on a node of its own."""

    architectures = ()

    def draw(self, server_round: int) -> Seats:
        return Seats({client: client for client in range(GOOD + BROKEN)}, {})


class Server:
    """A server in its first round, and the messages that it has sent; the round can be ended any number of times."""

    def __init__(self) -> None:
        self.strategy = FedHProStrategy(RunConfig.parse(SETTINGS))
        self.strategy.num_classes = CLASSES
        self.strategy.clients.roster = AllThere()
        self.begin()
        # No grid: none is asked for anything before replies are there.
        arrays = array_record(self.strategy.model.shared)
        self.sent = list(self.strategy.configure_train(1, arrays, ConfigRecord(), None))  # type: ignore[arg-type]
        for place, message in enumerate(self.sent):
            message.metadata.__dict__["_message_id"] = f"message {place}"

    def begin(self) -> None:
        model = new_model()
        self.strategy.model, self.strategy.state = GlobalModel.start(model, "all"), self.strategy.method.start(model)

    def ended(self, replies: dict[int, RecordDict]) -> Bits:
        """Model and state after the replies of these clients."""
        return self.ended_by([Message(content, reply_to=self.sent[client]) for client, content in replies.items()])

    def ended_by(self, replies: list[Message]) -> Bits:
        self.begin()
        self.strategy.aggregate_train(1, replies)
        named = {**self.strategy.model.shared, **self.strategy.tensors()}
        return {name: value.contiguous().numpy().tobytes() for name, value in named.items()}

    @property
    def counted(self) -> list[int]:
        return [update.partition_id for update in self.strategy.replies.good]


def test_ten_thousand_broken_replies_change_nothing_for_the_others() -> None:
    random, played, accepted = Random(0), Counter[str](), Counter[str]()
    order, server = itertools.cycle(BREAKERS), Server()
    honest = {client: good_reply(client) for client in range(GOOD)}
    for _ in range(ROUNDS):
        ways = {GOOD + place: next(order) for place in range(BROKEN)}
        replies = honest | {client: broken_reply(client, name, random) for client, name in ways.items()}
        bits, counted, reasons = server.ended(replies), server.counted, server.strategy.replies.set_aside
        assert counted[:GOOD] == [0, 1, 2]
        assert len(reasons) == GOOD + BROKEN - len(counted)
        assert all(len(reason) <= LONGEST_REASON + len("client 99: ") and reason.isprintable() for reason in reasons)
        assert all(bool(torch.isfinite(value).all()) for value in server.strategy.model.shared.values())
        assert bits == server.ended({client: replies[client] for client in counted})
        played.update(ways.values())
        accepted.update(ways[client] for client in counted[GOOD:])
    assert played.total() == 10_000
    assert set(accepted) <= MAY_BE_HARMLESS


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.mark.parametrize("name", BREAKERS)
def test_a_round_without_the_broken_reply_is_the_same_round(name: str, server: Server) -> None:
    """Each way alone: the round is that of the honest clients, unless the reply is as good as theirs."""
    honest = {client: good_reply(client) for client in range(GOOD)}
    wanted = server.ended(honest)
    for seed in range(6):
        bits = server.ended(honest | {GOOD: broken_reply(GOOD, name, Random(seed))})
        if len(server.counted) == GOOD:
            assert bits == wanted
        else:
            assert name in MAY_BE_HARMLESS


def test_replies_out_of_turn(server: Server) -> None:
    """Errors with any text, two replies to one message, and replies to none."""
    honest = {client: good_reply(client) for client in range(GOOD)}
    wanted = server.ended(honest)
    sent = server.sent
    stray = Message(RecordDict(), dst_node_id=10, message_type="train")
    stray.metadata.__dict__["_message_id"] = "of another round"
    messages = [Message(content, reply_to=sent[client]) for client, content in honest.items()]
    messages += [Message(good_reply(7), reply_to=sent[7]), Message(RecordDict(), reply_to=sent[7])]
    messages += [Message(Error(code=7, reason="x" * 10**6), reply_to=sent[8])]
    messages += [Message(Error(code=0, reason="a\nb\x1b[2J c\x00d\u202e"), reply_to=sent[9])]
    messages += [Message(good_reply(10), reply_to=stray)]
    messages += [Message(RecordDict({"model": ArrayRecord()}), reply_to=sent[11])]
    assert server.ended_by(messages) == wanted
    reasons = server.strategy.replies.set_aside
    assert reasons[0] == "a reply to no message of this round: from node 10"
    assert "client 7: replied twice" in reasons
    assert "client 9: b [2J c d" in reasons
    assert max(map(len, reasons)) == LONGEST_REASON + len("client 8: ")

"""How nodes introduce themselves before round 1, which client each plays then, and what is refused."""

import math

import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.introduction import LONGEST_NAME, Introduction
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.printable import LONGEST_REASON
from fedhpro_flwr.runs.checkpoint import RunSoFar
from fedhpro_flwr.server import answers, inquiries
from fedhpro_flwr.server.answers import wait_for_nodes
from fedhpro_flwr.server.roster import Roster


class FakeGrid(InProcessGrid):
    """Nodes that introduce themselves as told: a partition id, an exception's text, or None for silence."""

    def __init__(self, says, code=None, appear=None, models=None):
        super().__init__(None, 0)
        self.says, self.code, self.models = says, code or {}, models or {}
        self.appear = iter(appear or [])

    def get_node_ids(self):
        return next(self.appear, list(self.says))

    def send_and_receive(self, messages, *, timeout=None):
        for message in messages:
            node_id = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"to {node_id}"  # as a SuperLink does
            said = self.says[node_id]
            if said is None:
                continue
            if isinstance(said, str):
                yield Message(Error(code=1, reason=said), reply_to=message)
                continue
            code = self.code.get(node_id, code_fingerprint())
            who = Introduction(node_id, said, code, *self.models.get(node_id, ("cnn", 64)))
            yield Message(who.pack(), reply_to=message)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(answers, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(inquiries, "POLL_SECONDS", 0.0)


def begun(grid, **settings):
    roster = Roster(grid, RunConfig.parse(**settings), RunSoFar("run"), 64)
    roster.begin(timeout=0.05)
    return roster


def introduce(grid, num_partitions, num_nodes=0):
    return begun(grid, partition__num_partitions=num_partitions, clients__num_nodes=num_nodes).everybody.nodes


@pytest.mark.parametrize(
    ("says", "wanted"),
    [
        ({50: 0, 51: 1, 52: 2, 53: 3}, {0: 50, 1: 51, 2: 52, 3: 53}),
        ({50: 0, 51: 1}, {0: 50, 1: 51, 2: 50, 3: 51}),
        ({50: 3}, {0: 50, 1: 50, 2: 50, 3: 50}),
        ({7: -1, 9: -1}, {0: 7, 1: 9, 2: 7, 3: 9}),
        ({50: 2, 7: -1}, {0: 50, 1: 7, 2: 50, 3: 7}),
        ({50: 0, 59: 9}, {0: 50, 1: 59, 2: 50, 3: 59}),
    ],
)
def test_each_node_plays_its_own_client_and_in_turn_those_that_none_names(says, wanted):
    assert introduce(FakeGrid(says), 4) == wanted


def test_every_node_plays_its_own_partition():
    assert introduce(FakeGrid({11: 2, 12: 0, 13: 1}), 3) == {0: 12, 1: 13, 2: 11}


def test_fewer_nodes_than_partitions_share_them():
    assert introduce(FakeGrid({11: 0, 12: 1}), 5) == {0: 11, 1: 12, 2: 11, 3: 12, 4: 11}


def test_nodes_without_a_partition_take_turns():
    assert introduce(FakeGrid({12: -1, 11: -7}), 3) == {0: 11, 1: 12, 2: 11}


def test_two_nodes_with_one_partition_are_refused():
    with pytest.raises(ConfigError) as refused:
        introduce(FakeGrid({11: 2, 12: 2}), 3)
    assert str(refused.value) == "nodes 11 and 12 both say partition-id = 2; give each its own"


def test_other_code_is_refused():
    with pytest.raises(ConfigError) as refused:
        introduce(FakeGrid({11: 0, 12: 1}, code={12: "feed"}), 2)
    assert str(refused.value) == f"node 12 runs other code (feed) than the server ({code_fingerprint()})"


def test_too_few_nodes():
    with pytest.raises(ConfigError) as refused:
        introduce(FakeGrid({11: 0, 12: 1}), 3, num_nodes=3)
    assert str(refused.value) == "2 nodes after 0 s, clients.num-nodes = 3 are needed"


def test_no_node_at_all():
    with pytest.raises(ConfigError, match=r"^0 nodes after 0 s"):
        introduce(FakeGrid({}), 3)


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({11: None}, "no node introduced itself: no answer in 0 s"),
        (
            {11: "Traceback\nImportError: no client_app", 12: None},
            "no node introduced itself: node 11: ImportError: no client_app",
        ),
        ({11: ""}, "no node introduced itself: node 11: no reason was given"),
    ],
)
def test_nobody_introduces_itself(says, sentence):
    with pytest.raises(ConfigError) as refused:
        introduce(FakeGrid(says), 3)
    assert str(refused.value) == sentence


def test_a_silent_node_is_played_by_the_others():
    assert introduce(FakeGrid({11: 0, 12: None, 13: "broken"}), 2) == {0: 11, 1: 11}


def test_nodes_that_come_late_are_waited_for():
    grid = FakeGrid({}, appear=[[], [5], [5, 3], [5, 3]])
    assert wait_for_nodes(grid, 2, 10) == [3, 5]
    grid = FakeGrid({}, appear=[[], [5], [5, 3], [3, 5], [1, 3, 5]])
    assert wait_for_nodes(grid, 0, 10) == [3, 5]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (
            {12: ("mlp", 32)},
            "client 1 (mlp) has features of width 32, client 0 (cnn) and the server's head of width 64; "
            "give every model the same width (model.width)",
        ),
        (
            {11: ("mlp", 32)},
            "client 0 (mlp) has features of width 32, client 1 (cnn) and the server's head of width 64; "
            "give every model the same width (model.width)",
        ),
        (
            {11: ("", 8), 12: ("", 64)},  # models of somebody's own app, which no setting names
            "client 0 has features of width 8, client 1 and the server's head of width 64; "
            "give every model the same width (in_features of its head)",
        ),
    ],
)
def test_features_of_two_widths_end_the_run_before_round_1(models, sentence):
    with pytest.raises(ConfigError) as refused:
        introduce(FakeGrid({11: 0, 12: 1}, models=models), 2)
    assert str(refused.value) == sentence


def test_a_node_that_is_not_ready_keeps_its_client_and_is_named(caplog):
    class Unready(FakeGrid):
        def send_and_receive(self, messages, *, timeout=None):
            for message in messages:
                node = message.metadata.dst_node_id
                problem = "client 1: no data" if node == 12 else ""
                who = Introduction(node, self.says[node], code_fingerprint(), "" if problem else "cnn", 0, problem)
                yield Message(who.pack(), reply_to=message)

    assert introduce(Unready({11: 0, 12: 1}), 2) == {0: 11, 1: 12}
    with pytest.raises(ConfigError, match=r"^no node could train: client 1: no data$"):
        introduce(Unready({12: 1}), 2)


@pytest.mark.parametrize("partition", [math.nan, None])
def test_an_answer_that_is_no_introduction_is_named(partition):
    class Foreign(FakeGrid):
        def send_and_receive(self, messages, *, timeout=None):
            for message in messages:
                records = {} if partition is None else {"metrics": MetricRecord({"partition-id": partition})}
                yield Message(RecordDict(records | {"config": ConfigRecord({"code": "x"})}), reply_to=message)

    with pytest.raises(ConfigError, match=r"^no node introduced itself: node \d+: its answer is no introduction"):
        introduce(Foreign({11: 0}), 1)


def test_what_a_node_says_of_itself_is_one_short_line():
    class Loud(FakeGrid):
        def send_and_receive(self, messages, *, timeout=None):
            for message in messages:
                me, long = message.metadata.dst_node_id, "\x1b[2J\n" + 9999 * "A"
                who = Introduction(me, self.says[me], code_fingerprint(), long, 64, long if me == 12 else "")
                yield Message(who.pack(), reply_to=message)

    (name,) = {*begun(Loud({11: 0}), partition__num_partitions=1, model__share="head").architectures}
    assert len(name) == LONGEST_NAME and name.isprintable()
    with pytest.raises(ConfigError) as refused:
        introduce(Loud({12: 0}), 1)
    assert len(str(refused.value)) < LONGEST_REASON + 50 and str(refused.value).isprintable()


def test_a_node_may_bring_its_architecture_and_the_others_have_the_runs():
    grid = FakeGrid({11: 0, 12: 1, 13: -1}, models={11: ("vit", 64), 12: ("mlp", 64), 13: ("", 0)})
    roster = begun(grid, partition__num_partitions=4, model__groups="cnn=2, mlp=2", model__share="head")
    assert roster.architectures == ("vit", "mlp", "cnn", "mlp")


def test_a_node_that_does_not_know_its_client_has_no_width_yet():
    assert introduce(FakeGrid({11: 0, 12: -1}, models={12: ("", 0)}), 2) == {0: 11, 1: 12}


def test_ten_nodes_that_are_not_ready_are_named(caplog):
    introduce(FakeGrid({0: 0, **{node: f"no data {node}" for node in range(1, 13)}}), 13)
    told = [text for text in caplog.messages if text.startswith("not ready to train: ")]
    assert told[9:] == ["not ready to train: node 10: no data 10", "not ready to train: 2 more"]

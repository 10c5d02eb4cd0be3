"""The round: one bad reply changes nothing but that this client is missing, bit for bit."""

import math

import pytest
import torch
from flwr.app import Array, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from client_app.app import make_client_app
from fedhpro_flwr import reports
from fedhpro_flwr.accuracies import ServerTested
from fedhpro_flwr.aggregation import weighted_mean
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.engine import code_fingerprint
from fedhpro_flwr.in_process import InProcessGrid
from fedhpro_flwr.metrics import Evaluation
from fedhpro_flwr.models import Model
from fedhpro_flwr.presets import PRESETS
from fedhpro_flwr.records import OwnTest, Update, array_record, pack_update, tensors_of, unpack_broadcast
from fedhpro_flwr.replies import QuorumError
from fedhpro_flwr.seeding import sample_partitions
from server_app.strategy import FedHProStrategy

CLIENTS, CLASSES, WIDTH, INPUTS = 4, 5, 3, 4  # nobody holds class 4
CONFIG = {
    "rounds": 2,
    "partition.num-partitions": CLIENTS,
    "local.epochs": 1,
    "local.batch-size": 4,
    "hyper-prototypes.prototypes-per-class": 2,
    "hyper-prototypes.matching-steps": 3,
    "class-gradients.augment": "none",
    "calibration.prototypes-per-class": 3,
    "calibration.matching-steps": 2,
    "calibration.epochs": 2,
}


def new_model(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(
            nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()), nn.Linear(WIDTH, CLASSES)
        )


def client_data(partition):
    draw = torch.Generator().manual_seed(partition)
    held = torch.tensor([partition, (partition + 1) % CLIENTS])
    samples = 8 + 2 * partition
    split = Split(torch.randn(samples, INPUTS, generator=draw), held[torch.arange(samples) % 2])
    return ClientData(split, split.subset(torch.arange(4)), (0.0,), (1.0,))


CLIENT_APP = make_client_app(lambda config, task, context: (new_model(1), client_data(task.partition_id)))


class Meddling(InProcessGrid):
    """Replies pass through `meddle(kind, round, partition, message, reply) -> replies`, and then `order`."""

    def __init__(self, app=CLIENT_APP, nodes=CLIENTS, meddle=None, order=list):
        super().__init__(app, nodes)
        self.meddle, self.order, self.seen = meddle, order, []

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        replies = []
        for message, reply in zip(messages, super().send_and_receive(messages, timeout=timeout), strict=True):
            kind = message.metadata.message_type
            if kind == "query":
                replies.append(reply)
                continue
            config = message.content["config"]
            self.seen.append((kind, config["task.server-round"], config["task.partition-id"]))
            replies += self.meddle(*self.seen[-1], message, reply) if self.meddle else [reply]
        return self.order(replies)


class Played:
    """A finished run: its strategy and what an observer was told."""

    def __init__(self, grid=None, *, test=None, **settings):
        self.reports: list[reports.RoundReport] = []
        self.config = RunConfig.parse(CONFIG, **settings)
        self.strategy = FedHProStrategy(self.config, test=test, observers=[self])
        self.grid = grid or Meddling()
        self.result = self.strategy.start(self.grid, array_record(new_model().state_dict()))

    def on_round(self, report):
        self.reports.append(report)

    def bits(self):
        named = {**self.strategy.model.shared, **{f"state {k}": v for k, v in self.strategy.tensors().items()}}
        return {name: value.contiguous().numpy().tobytes() for name, value in named.items()}


def meddle_with(client, change, *, server_round=1):
    """A grid on which one client's reply in one round is changed; None takes it away."""

    def meddle(kind, turn, partition, message, reply):
        if (kind, turn, partition) != ("train", server_round, client):
            return [reply]
        changed = change(message, reply)
        return [] if changed is None else changed if isinstance(changed, list) else [changed]

    return Meddling(meddle=meddle)


def rewritten(reply, message, **records):
    content = dict(reply.content) | {name.replace("_", "-"): record for name, record in records.items()}
    return Message(
        RecordDict({name: record for name, record in content.items() if record is not None}), reply_to=message
    )


def model_with(reply, name, change):
    tensors = tensors_of(reply.content["model"])
    return array_record(tensors | {name: change(tensors[name])})


def numbers(reply, **changes):
    return MetricRecord(dict(reply.content["metrics"]) | {key.replace("_", "-"): v for key, v in changes.items()})


def tensor_of(reply, name):
    return tensors_of(reply.content[name])[name]


FAULTS = {
    "silence": (lambda message, reply: None, "did not reply"),
    "NaN": (
        lambda message, reply: rewritten(
            reply, message, model=model_with(reply, "head.weight", lambda value: value * math.nan)
        ),
        "model tensor head.weight is not finite",
    ),
    "NaN gradient": (
        lambda message, reply: rewritten(
            reply,
            message,
            class_gradients=array_record({"class-gradients": tensor_of(reply, "class-gradients") * math.nan}),
        ),
        "class-gradients is not finite",
    ),
    "wrong shape": (
        lambda message, reply: rewritten(reply, message, model=model_with(reply, "head.bias", lambda value: value[:1])),
        f"model tensor head.bias has shape [1], [{CLASSES}] was expected",
    ),
    "unknown class": (
        lambda message, reply: rewritten(
            reply, message, class_ids=array_record({"class-ids": tensor_of(reply, "class-ids") + CLASSES})
        ),
        f"class id 7 is unknown, there are 0 to {CLASSES - 1}",
    ),
    "negative count": (
        lambda message, reply: rewritten(
            reply, message, class_counts=array_record({"class-counts": -tensor_of(reply, "class-counts")})
        ),
        "class count -6, it must be positive",
    ),
    "negative num-examples": (
        lambda message, reply: rewritten(reply, message, metrics=numbers(reply, num_examples=-5)),
        "num-examples = -5, it must be a positive whole number",
    ),
    "missing record": (
        lambda message, reply: rewritten(reply, message, class_counts=None),
        "'class-counts' is missing",
    ),
    "missing metrics": (lambda message, reply: rewritten(reply, message, metrics=None), "'metrics' is missing"),
    "empty": (lambda message, reply: Message(RecordDict(), reply_to=message), "'metrics' is missing"),
    "error": (
        lambda message, reply: Message(Error(code=1, reason="Traceback\n  x\nOSError: disk"), reply_to=message),
        "OSError: disk",
    ),
    "error without a reason": (
        lambda message, reply: Message(Error(code=1, reason=""), reply_to=message),
        "no reason was given",
    ),
    "twice": (lambda message, reply: [reply, reply], "replied twice"),
    "another's partition": (
        lambda message, reply: rewritten(reply, message, metrics=numbers(reply, partition_id=1)),
        "says that it is client 1",
    ),
    "unknown partition": (
        lambda message, reply: rewritten(reply, message, metrics=numbers(reply, partition_id=77)),
        "says that it is client 77",
    ),
    "no tensor": (
        lambda message, reply: rewritten(
            reply,
            message,
            class_ids=type(reply.content["class-ids"])({"class-ids": Array("int64", (2,), "numpy.ndarray", b"x")}),
        ),
        "a record cannot be read",
    ),
}


@pytest.fixture(scope="module")
def without_client_2():
    return {preset: Played(meddle_with(2, lambda message, reply: None), preset=preset) for preset in PRESETS}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reply_is_as_none(fault, preset, without_client_2):
    change, reason = FAULTS[fault]
    run = Played(meddle_with(2, change), preset=preset)
    assert len(run.reports[0].set_aside) == 1
    assert run.reports[0].set_aside[0].startswith(f"client 2: {reason}")
    assert [client["partition-id"] for client in run.reports[0].clients] == [0, 1, 3]
    assert run.reports[1].set_aside == []
    assert len(run.reports[1].clients) == CLIENTS
    assert run.bits() == without_client_2[preset].bits()


def test_a_run_without_that_client_is_another_run(without_client_2):
    assert Played().bits() != without_client_2["paper"].bits()


def test_a_client_that_says_it_is_another_does_not_put_that_one_aside():
    def meddle(kind, turn, partition, message, reply):
        if kind == "train" and turn == 1 and partition == 0:
            return [rewritten(reply, message, metrics=numbers(reply, partition_id=1))]
        return [reply]

    run = Played(Meddling(meddle=meddle))
    assert run.reports[0].set_aside == ["client 0: says that it is client 1"]
    assert [client["partition-id"] for client in run.reports[0].clients] == [1, 2, 3]


def test_a_reply_to_nothing_is_named_by_its_node():
    stray = []

    def meddle(kind, turn, partition, message, reply):
        if kind == "train" and turn == 1 and partition == 3:
            stray.append(reply)
        return [reply, *stray] if (kind, turn, partition) == ("train", 2, 0) else [reply]

    run = Played(Meddling(meddle=meddle))
    assert run.reports[1].set_aside == ["a reply to no message of this round: from node 103"]
    assert run.bits() == Played().bits()


def test_a_client_that_raises_is_set_aside_and_named():
    def client_side(config, task, context):
        if task.partition_id == 1:
            raise IndexError("no such shelf")
        if task.partition_id == 3:
            raise ValueError("no samples here")
        return new_model(1), client_data(task.partition_id)

    run = Played(Meddling(make_client_app(client_side)), rounds=1)
    assert run.reports[0].set_aside == ["client 1: IndexError: no such shelf", "client 3: no samples here"]


def test_with_privacy_withhold_the_server_is_not_told_why_a_client_raised(tmp_path):
    """The sentence of an error may quote a label or a number, which no noise covers."""

    def client_side(config, task, context):
        if task.partition_id == 1:
            raise IndexError("label 7 is out of range")
        if task.partition_id == 3:
            raise ValueError("margin must be >= 0 and finite, got -0.123")
        return new_model(1), client_data(task.partition_id)

    settings = {f"privacy.{what}-{how}": 1.0 for what in ("class", "model") for how in ("clip", "noise")}
    settings |= {"privacy.withhold": True, "clients.state-path": str(tmp_path)}
    given = {key.replace(".", "__").replace("-", "_"): value for key, value in settings.items()}
    run = Played(Meddling(make_client_app(client_side)), rounds=1, **given)
    assert run.reports[0].set_aside == [
        f"client {client}: failed; privacy.withhold keeps the reason in the log of its own node" for client in (1, 3)
    ]


def test_an_epsilon_that_nobody_asked_for_is_not_told():
    def boast(message, reply):
        numbers = reply.content["metrics"]
        return rewritten(reply, message, metrics=MetricRecord({**numbers, "epsilon": 0.5, "epsilon-if-secret": 0.5}))

    run = Played(meddle_with(2, boast), rounds=1)
    assert run.reports[0].set_aside == [] and "epsilon" in run.reports[0].clients[2]
    assert not {"epsilon", "epsilon-if-secret"} & run.reports[0].method.keys()


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


def constant_app(shift=lambda partition: float(partition), examples=lambda partition: partition + 1):
    """Clients that reply with the received model plus a number."""
    app = ClientApp()

    @app.query()
    def introduce(message, context):
        who = MetricRecord({"partition-id": int(context.node_config["partition-id"])})
        return Message(
            RecordDict({"metrics": who, "config": ConfigRecord({"code": code_fingerprint()})}), reply_to=message
        )

    @app.train()
    def train(message, context):
        received = unpack_broadcast(message)
        partition = received.task.partition_id
        model = {k: v + shift(partition) if v.is_floating_point() else v for k, v in received.model.items()}
        confusion = torch.tensor([[[1, 1 + partition], [0, 0]]])
        own = OwnTest(partition, Evaluation.of_confusion(confusion, 0.5))
        update = Update(partition, examples(partition), model, {}, {"train-loss": float(partition)}, own)
        return Message(pack_update(update), reply_to=message)

    @app.evaluate()
    def test(message, context):
        return Message(RecordDict({"metrics": MetricRecord({"nothing": 1})}), reply_to=message)

    return app


def test_the_mean_is_weighted_by_samples():
    run = Played(Meddling(constant_app()), method__name="fedavg", rounds=1)
    shift = (0 * 1 + 1 * 2 + 2 * 3 + 3 * 4) / 10
    for name, value in new_model().state_dict().items():
        wanted = value + shift if value.is_floating_point() else value
        torch.testing.assert_close(run.strategy.model.shared[name], wanted)
    report = run.reports[0]
    assert report.train_loss == pytest.approx(2.0)
    assert report.received.accuracy == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert [client["num-examples"] for client in report.clients] == [1, 2, 3, 4]


def test_evaluation_replies_without_numbers_are_left_out():
    run = Played(Meddling(constant_app()), method__name="fedavg", rounds=1)
    assert run.strategy.tests == []
    assert run.result.evaluate_metrics_clientapp == {}


def test_a_bad_evaluation_reply_is_left_out():
    def meddle(kind, turn, partition, message, reply):
        if kind != "evaluate":
            return [reply]
        cells = tensor_of(reply, "confusion")
        wrong = {
            0: {"metrics": numbers(reply, partition_id=77)},
            1: {"metrics": numbers(reply, test_loss=math.nan)},
            2: {"confusion": array_record({"confusion": cells * torch.tensor([1, 1, 1, -1])})},
        }
        return [rewritten(reply, message, **wrong.get(partition, {}))]

    assert [test.partition_id for test in Played(Meddling(meddle=meddle), rounds=1).strategy.tests] == [3]


@pytest.mark.parametrize(("quorum", "needed"), [(0.28, 7), (0.29, 8), (1.0, 25), (0.001, 1)])
def test_the_quorum_is_rounded_up_but_not_by_the_error_of_floats(quorum, needed):
    def run(replying):
        grid = Meddling(
            constant_app(), 25, lambda kind, turn, partition, message, reply: [reply] if partition < replying else []
        )
        Played(grid, method__name="fedavg", rounds=1, partition__num_partitions=25, clients__quorum=quorum)

    run(needed)
    with pytest.raises(QuorumError, match=f"needs {needed};"):
        run(needed - 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_order_of_the_replies_does_not_matter(preset):
    wanted = Played(preset=preset)
    for order in (lambda replies: replies[::-1], lambda replies: [*replies[2:], *replies[:2]]):
        run = Played(Meddling(order=order), preset=preset)
        assert run.bits() == wanted.bits()
        assert [client["partition-id"] for client in run.reports[0].clients] == [0, 1, 2, 3]
        assert [test.partition_id for test in run.strategy.tests] == [0, 1, 2, 3]


def test_fewer_nodes_play_all_clients_with_the_same_result():
    assert Played(Meddling(nodes=2)).bits() == Played().bits()


def test_a_class_that_nobody_holds_keeps_its_hyper_prototypes():
    run = Played()
    start = run.strategy.method.start(new_model().state_dict()).hyper_prototypes.vectors
    after = run.strategy.tensors()["hyper-prototypes"]
    assert torch.equal(after[4], start[4])
    assert all(not torch.equal(after[c], start[c]) for c in range(4))
    assert run.reports[0].method["classes-matched"] == 4
    assert run.reports[0].method["hyper-prototype-movement"] > 0


def test_the_report_keeps_every_clients_own_numbers():
    report = Played().reports[1]
    assert [client["partition-id"] for client in report.clients] == [0, 1, 2, 3]
    assert [client["num-examples"] for client in report.clients] == [8, 10, 12, 14]
    assert [client["test-examples"] for client in report.clients] == [4, 4, 4, 4]
    wanted = sum(client["train-loss"] * client["num-examples"] for client in report.clients) / 44
    assert report.train_loss == pytest.approx(wanted)
    assert report.received.accuracy == pytest.approx(sum(client["test-correct"] for client in report.clients) / 16)
    for phase in ("evaluation", "class-gradients", "local-training"):
        assert report.client_seconds[phase] == pytest.approx(
            sum(client[f"seconds-{phase}"] for client in report.clients)
        )
    assert set(report.server_seconds) == {"waiting", "aggregation", "matching"}


def test_bytes_of_every_record():
    header = 128
    shapes = [value.numel() * value.element_size() for value in new_model().state_dict().values()]
    model = sum(header + size for size in shapes)
    report = Played(rounds=1).reports[0]
    assert report.bytes_down == {
        "model": CLIENTS * model,
        "hyper-prototypes": CLIENTS * (header + CLASSES * 2 * WIDTH * 4),
    }
    assert report.bytes_up == {
        "model": CLIENTS * model,
        "class-gradients": CLIENTS * (header + 2 * WIDTH * 4),
        "class-ids": CLIENTS * (header + 2 * 8),
        "class-counts": CLIENTS * (header + 2 * 8),
    }
    plain = Played(rounds=1, method__name="fedavg").reports[0]
    assert plain.bytes_down == plain.bytes_up == {"model": CLIENTS * model}


@pytest.mark.parametrize("sampling", ["round", "stream"])
def test_per_round_asks_so_many_and_tests_all_at_the_end(sampling):
    run = Played(rounds=3, clients__per_round=2, clients__sampling=sampling)
    for turn in (1, 2, 3):
        asked = [partition for kind, when, partition in run.grid.seen if (kind, when) == ("train", turn)]
        assert asked == sample_partitions(CLIENTS, 2, seed=0, server_round=turn, sampling=sampling)
        assert [client["partition-id"] for client in run.reports[turn - 1].clients] == sorted(asked)
    assert [partition for kind, _, partition in run.grid.seen if kind == "evaluate"] == [0, 1, 2, 3]


@pytest.mark.parametrize(("every", "tested"), [(0, []), (1, [2, 3, 4, 5]), (2, [3, 5])])
def test_clients_test_the_result_of_every_so_many_rounds(every, tested):
    run = Played(rounds=5, evaluation__clients_every=every)
    assert [report.server_round for report in run.reports if report.received] == tested
    assert len(run.strategy.tests) == CLIENTS


class ServerTest:
    """Remembers what it was asked to test."""

    def __init__(self):
        self.heads = []

    def __call__(self, model, in_place_of_head, by_prototype):
        self.heads.append(in_place_of_head)
        return ServerTested(accuracy=0.5, loss=1.0)


@pytest.mark.parametrize(("every", "tested"), [(1, [1, 2, 3]), (2, [2, 3]), (9, [3])])
def test_the_server_tests_every_so_many_rounds_and_the_last(every, tested):
    run = Played(rounds=3, evaluation__every=every, test=ServerTest())
    assert [report.server_round for report in run.reports if report.tested] == tested
    assert list(run.result.evaluate_metrics_serverapp) == tested


def same_heads(one, two):
    return torch.equal(one["head.weight"], two["head.weight"]) and torch.equal(one["head.bias"], two["head.bias"])


def test_what_becomes_of_the_calibrated_head():
    tests = {mode: ServerTest() for mode in ("off", "replace", "separate")}
    runs = {mode: Played(rounds=1, calibration__head=mode, test=test).strategy for mode, test in tests.items()}
    off, replaced, separate = (runs[mode] for mode in ("off", "replace", "separate"))
    updates = off.replies.good
    means = weighted_mean([update.model for update in updates], [update.num_examples for update in updates])
    # off and separate: the global model is the mean of the clients', head included.
    assert all(torch.equal(off.model.shared[name], means[name]) for name in means)
    assert all(torch.equal(separate.model.shared[name], means[name]) for name in means)
    # replace: the head, and nothing else, is the calibrated one; separate keeps that one for itself.
    calibrated = separate.state.signal_head
    assert not same_heads(replaced.model.shared, means)
    assert torch.equal(replaced.model.shared["head.weight"], calibrated.weight)
    assert torch.equal(replaced.model.shared["head.bias"], calibrated.bias)
    assert all(torch.equal(replaced.model.shared[name], means[name]) for name in means if not name.startswith("head."))
    # what is tested, and what clients get beside the model
    assert tests["off"].heads == tests["replace"].heads == [None]
    assert tests["separate"].heads == [calibrated.scores]
    assert (
        set(off.method.broadcast(off.state)) == set(replaced.method.broadcast(replaced.state)) == {"hyper-prototypes"}
    )
    assert set(separate.method.broadcast(separate.state)) == {
        "hyper-prototypes",
        "signal-head-weight",
        "signal-head-bias",
    }
    assert "calibration-prototypes" in separate.tensors()
    assert "calibration-prototypes" not in off.tensors()


def test_the_separate_head_travels_in_round_2():
    report = Played(calibration__head="separate").reports[1]
    assert {"signal-head-weight", "signal-head-bias"} <= set(report.bytes_down)
    assert {"head-weight-gradients", "head-bias-gradients"} <= set(report.bytes_up)


def test_start_honours_flowers_own_arguments():
    seen = []
    config = RunConfig.parse(CONFIG)
    strategy = FedHProStrategy(config)
    result = strategy.start(
        Meddling(),
        array_record(new_model().state_dict()),
        num_rounds=3,
        evaluate_fn=lambda turn, arrays: seen.append(turn) or MetricRecord({"mine": turn}),
    )
    assert seen == [1, 2, 3]
    assert [result.evaluate_metrics_serverapp[turn]["mine"] for turn in seen] == seen
    assert list(result.train_metrics_clientapp) == seen
    assert result.evaluate_metrics_clientapp[3]["clients"] == CLIENTS
    assert all(torch.equal(tensors_of(result.arrays)[name], value) for name, value in strategy.model.shared.items())


def test_an_unknown_method_is_named():
    known = r"there are: averaged, creff, fedavg, fedhpro, .*scaffold$"
    with pytest.raises(ConfigError, match=rf"^method\.name = 'fedsgd' is unknown, {known}"):
        FedHProStrategy(RunConfig.parse({"method.name": "fedsgd"}))


def test_a_client_of_another_architecture_is_set_aside_with_a_sentence():
    def client_side(config, task, context):
        other = Model(nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, CLASSES))
        return other if task.partition_id == 2 else new_model(1), client_data(task.partition_id)

    run = Played(Meddling(make_client_app(client_side)), rounds=1)
    assert len(run.reports[0].set_aside) == 1
    assert run.reports[0].set_aside[0].startswith("client 2: the received model does not fit this client's: ")


def moved_by(factor):
    """A client that sends w + factor (w_k - w)."""

    def change(message, reply):
        sent = tensors_of(message.content["model"])
        moved = {
            name: sent[name] + factor * (value - sent[name]) if name.startswith("head.") else value
            for name, value in tensors_of(reply.content["model"]).items()
        }
        return rewritten(reply, message, model=array_record(moved))

    return change


def test_a_client_whose_model_moved_too_far_is_as_silent(without_client_2):
    run = Played(meddle_with(2, moved_by(1e6)), aggregation__max_update_norm=1e3)
    assert len(run.reports[0].set_aside) == 1
    assert run.reports[0].set_aside[0].startswith("client 2: the model moved by ")
    assert run.bits() == without_client_2["paper"].bits()


def test_a_client_that_moves_against_the_others_is_set_aside():
    app = constant_app(shift=lambda partition: -0.5 if partition == 2 else 1.0 + partition)
    run = Played(Meddling(app), method__name="fedavg", rounds=1, aggregation__drop_contrary=True)
    assert run.reports[0].set_aside == ["client 2: its model moved against the median client's (cosine -1.00)"]
    for name, value in new_model().state_dict().items():
        wanted = value + (1 * 1 + 2 * 2 + 4 * 4) / 7 if value.is_floating_point() else value
        torch.testing.assert_close(run.strategy.model.shared[name], wanted)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "settings",
    [
        {"aggregation__model": "median", "aggregation__class_gradients": "median"},
        {"aggregation__model": "trimmed-mean", "aggregation__class_gradients": "trimmed-mean"},
    ],
)
def test_one_hostile_client_moves_a_middle_no_further_than_the_others_reach(settings, preset):
    meddled, honest = (
        Played(meddle_with(2, moved_by(factor)), rounds=1, preset=preset, calibration__head="off",
               hyper_prototypes__matching_head="client", calibration__from_imbalance=0.0,
               calibration__first_head="model", losses__correction="none", **settings)
        for factor in (1e6, 1.0)
    )  # fmt: skip
    models = [update.model for update in honest.strategy.replies.good if update.partition_id != 2]
    for name in ("head.weight", "head.bias"):
        stacked, moved = torch.stack([model[name] for model in models]), meddled.strategy.model.shared[name]
        assert bool((moved >= stacked.amin(dim=0)).all()) and bool((moved <= stacked.amax(dim=0)).all())


def test_class_gradients_are_clipped_before_they_move_the_hyper_prototypes():
    """How loud a client is does not matter then, once it is louder than the other one that holds the class."""

    def moved(loudness, **settings):
        def loud(message, reply):
            gradients = tensor_of(reply, "class-gradients")
            return rewritten(reply, message, class_gradients=array_record({"class-gradients": loudness * gradients}))

        run = Played(meddle_with(2, loud), rounds=1, hyper_prototypes__matching_distance="mse", **settings)
        return run.strategy.tensors()["hyper-prototypes"]

    torch.testing.assert_close(
        moved(-1e6, aggregation__clip_to_median=True), moved(-1e3, aggregation__clip_to_median=True)
    )
    assert float((moved(-1e6) - moved(-1e3)).norm()) > 1e3

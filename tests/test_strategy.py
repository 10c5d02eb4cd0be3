"""The round: who is asked and who tests when, what the server makes of the replies, and what it reports."""

import math
import time

import pytest
import torch
from flwr.app import ConfigRecord, MetricRecord
from meddling_grid import (
    CLASSES,
    CLIENTS,
    CONFIG,
    WIDTH,
    Meddling,
    Played,
    constant_app,
    new_model,
    numbers,
    rewritten,
    tensor_of,
)

from fedhpro_flwr.accuracies import ClientsTested, ServerTested
from fedhpro_flwr.aggregation import weighted_mean
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.records import array_record, tensors_of
from fedhpro_flwr.seeding import sample_partitions
from fedhpro_flwr.server import replies
from fedhpro_flwr.settings.presets import PRESETS
from server_app.strategy import FedHProStrategy


def test_a_client_is_named_by_the_message_it_answers_and_not_by_what_it_says():
    assert replies._named(1, "client 12: out of memory") == "client 1: client 12: out of memory"
    assert replies._named(1, "client 1: out of memory") == "client 1: out of memory"
    assert replies._named(1, "client 1 has features of width 5") == "client 1 has features of width 5"


def test_the_models_of_a_round_are_let_go_of_before_the_next_ones_come():
    held = []

    class Watching(Meddling):
        def send_and_receive(self, messages, **given):
            held.append(len(run_of[0].replies.good) if run_of else None)
            return super().send_and_receive(messages, **given)

    run_of = []
    begin = FedHProStrategy.play

    def noting(strategy, *given, **more):
        run_of[:] = [strategy]
        return begin(strategy, *given, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FedHProStrategy, "play", noting)
        run = Played(Watching(constant_app()), method__name="fedavg", rounds=3)
    assert held[-4:-1] == [0, 0, 0]  # the last one is the test after the last round
    assert len(run.strategy.replies.good) == CLIENTS


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
    assert list(run.result.evaluate_metrics_clientapp) == [0]  # what these clients say of the model they received


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


@pytest.mark.parametrize("preset", PRESETS)
def test_the_order_of_the_replies_does_not_matter(preset):
    wanted = Played(preset=preset)
    for order in (lambda replies: replies[::-1], lambda replies: [*replies[2:], *replies[:2]]):
        run = Played(Meddling(order=order), preset=preset)
        assert run.bits() == wanted.bits()
        assert [client["partition-id"] for client in run.reports[0].clients] == [0, 1, 2, 3]
        assert [test.partition_id for test in run.strategy.tests] == [0, 1, 2, 3]


def test_the_test_after_the_last_round_is_told_as_that_rounds():
    """A node that does not answer it in time "has not answered round 2", of two."""
    run = Played(rounds=2)
    assert [turn for kind, turn, _ in run.grid.seen if kind == "evaluate"] == [2] * CLIENTS


def test_a_rounds_seconds_are_its_own():
    began = time.perf_counter()
    run = Played(rounds=3)
    seconds = [report.seconds for report in run.reports]
    assert sum(seconds) <= time.perf_counter() - began
    assert all(whole >= sum(report.server_seconds.values()) for whole, report in zip(seconds, run.reports, strict=True))


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
    calibrated = separate.state.gradient_head
    assert not same_heads(replaced.model.shared, means)
    assert torch.equal(replaced.model.shared["head.weight"], calibrated.weight)
    assert torch.equal(replaced.model.shared["head.bias"], calibrated.bias)
    assert all(torch.equal(replaced.model.shared[name], means[name]) for name in means if not name.startswith("head."))
    # what is tested, and what clients get beside the model
    assert tests["off"].heads == tests["replace"].heads == [None]
    (scores,), z = tests["separate"].heads, torch.randn(3, calibrated.width)
    assert torch.equal(scores(z), calibrated.scores(z))
    # and what the caller gets: the model that was tested
    given = tensors_of(separate.result.arrays)
    assert torch.equal(given["head.weight"], calibrated.weight) and torch.equal(given["head.bias"], calibrated.bias)
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
    assert seen == [0, 1, 2, 3]  # as Flower does, of the initial model too
    assert [result.evaluate_metrics_serverapp[turn]["mine"] for turn in seen] == seen
    assert list(result.train_metrics_clientapp) == seen[1:]
    assert list(result.evaluate_metrics_clientapp) == seen[1:]
    assert result.evaluate_metrics_clientapp[3]["clients"] == CLIENTS
    assert all(torch.equal(tensors_of(result.arrays)[name], value) for name, value in strategy.model.shared.items())


def test_flowers_result_has_the_clients_own_tests_of_every_round_that_they_tested():
    run = Played(rounds=5, evaluation__clients_every=2, clients__per_round=3)
    told = run.result.evaluate_metrics_clientapp
    assert {turn: dict(record) for turn, record in told.items()} == {
        2: {"accuracy": run.reports[2].received.accuracy, "clients": 3},
        4: {"accuracy": run.reports[4].received.accuracy, "clients": 3},
        5: {"accuracy": ClientsTested.of(run.strategy.tests).accuracy, "clients": CLIENTS},
    }


@pytest.mark.parametrize("name", ["train_config", "evaluate_config"])
def test_settings_for_the_clients_alone_are_refused(name):
    strategy = FedHProStrategy(RunConfig.parse(partition__num_partitions=CLIENTS))
    with pytest.raises(ConfigError, match=rf"^{name} = {{'local\.lr': 0\.5}}: settings belong in RunConfig"):
        strategy.start(Meddling(), array_record(new_model().state_dict()), **{name: ConfigRecord({"local.lr": 0.5})})
    assert not strategy.clients.asked


def test_an_unknown_method_is_named():
    known = r"there are: averaged, creff, fedavg, fedhpro, .*scaffold$"
    with pytest.raises(ConfigError, match=rf"^method\.name = 'fedsgd' is unknown, {known}"):
        FedHProStrategy(RunConfig.parse({"method.name": "fedsgd"}))

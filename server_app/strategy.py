"""THE round, top to bottom: broadcast, collect, check, average, match, test, tell.

What is particular to FedHPro is named at the line that calls it and written in fedhpro_flwr/methods/fedhpro.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor

from fedhpro_flwr.aggregation import weighted_mean
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.engine import code_fingerprint
from fedhpro_flwr.head import Head
from fedhpro_flwr.methods import Method, build_method
from fedhpro_flwr.nodes import introductions
from fedhpro_flwr.records import (
    METRICS,
    Expected,
    Task,
    Tensors,
    array_record,
    asked_partition,
    numbers_of,
    pack_broadcast,
    scalars,
    tensors_of,
)
from fedhpro_flwr.replies import Collected, bytes_of, collect
from fedhpro_flwr.reports import Observer, RoundReport, Tested, clients_accuracy, mean_loss
from fedhpro_flwr.seeding import Draws, sample_partitions
from fedhpro_flwr.timing import Stopwatch

ServerTest = Callable[[Tensors, Head | None], Tested]  # the global model, and the head to use in place of its own
EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


class FedHProStrategy(Strategy):
    r"""Federated training with a method's hooks around weighted averaging; with `method.name = "fedhpro"`:

    .. math::
        w \leftarrow \sum_k n_k w_k / \sum_k n_k, \qquad
        S \leftarrow S - \eta \nabla_S \sum_c [1 - \cos(g^c, g_{HP}^c(S))], \quad g^c = \mathrm{mean}_k\, g_k^c

    Args:
        config: all settings of the run; they travel to the clients with every message.
        test: measures the global model on the server, None for no such test.
        observers: told of every round.
        data: fingerprint of the partition the server expects its clients to use; "" where clients bring their own data.
        method: the server half of the federated method; built from `config` if left out.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        test: ServerTest | None = None,
        observers: Sequence[Observer] = (),
        data: str = "",
        method: Method | None = None,
    ) -> None:
        self.config, self.test, self.observers, self.data = config, test, tuple(observers), data
        self.method = method or build_method(config)
        self.model: Tensors = {}
        self.state: object = None
        self.nodes: dict[int, int] = {}  # partition id -> node id
        self.watch = Stopwatch()
        self.sent: list[Message] = []  # the messages of the round
        self.replies = Collected([], [])
        self.method_metrics: dict[str, float] = {}
        self.tested_clients: list[dict[str, float]] = []

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int | None = None,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run all rounds. `num_rounds` and `timeout` default to the settings; `evaluate_fn` is called as Flower does.

        Raises:
            QuorumError: too few clients replied well in a round.
            ConfigError: the nodes are not those the settings need.
        """
        config, result = self.config, Result()
        num_rounds, timeout = num_rounds or config.rounds, timeout or config.clients.timeout
        self.summary()
        self.model = tensors_of(initial_arrays)
        self.state = self.method.start(self.model)  # FedHPro: S ~ N(0, 1)
        self.nodes = introductions(
            grid, config.partition.num_partitions, num_nodes=config.clients.num_nodes, timeout=timeout
        )
        for server_round in range(1, num_rounds + 1):
            report = self.play(
                server_round, grid, timeout, train_config or ConfigRecord(), is_last=server_round == num_rounds
            )
            result.arrays = array_record(self.model)
            result.train_metrics_clientapp[server_round] = MetricRecord({"train-loss": report.train_loss})
            if report.tested:
                result.evaluate_metrics_serverapp[server_round] = MetricRecord(
                    {"accuracy": report.tested.accuracy, "loss": report.tested.loss}
                )
            if evaluate_fn and (extra := evaluate_fn(server_round, result.arrays)) is not None:
                result.evaluate_metrics_serverapp.setdefault(server_round, MetricRecord()).update(extra)
        messages = self.configure_evaluate(
            num_rounds, array_record(self.model), evaluate_config or ConfigRecord(), grid
        )
        tested = self.aggregate_evaluate(num_rounds, grid.send_and_receive(messages, timeout=timeout))
        if tested is not None:
            result.evaluate_metrics_clientapp[num_rounds] = tested
        return result

    def play(self, server_round: int, grid: Grid, timeout: float, extra: ConfigRecord, *, is_last: bool) -> RoundReport:
        """One round: one message to each drawn client and one reply from it."""
        began, self.watch = time.perf_counter(), Stopwatch()
        messages = list(self.configure_train(server_round, array_record(self.model), extra, grid))
        with self.watch("waiting"):
            replies = list(grid.send_and_receive(messages, timeout=timeout))
        self.aggregate_train(server_round, replies)
        tested = None
        if self.test and (is_last or server_round % self.config.evaluation.every == 0):
            with self.watch("evaluation"):
                tested = self.test(self.model, self.method.evaluation_head(self.state))
        report = RoundReport.of(
            server_round,
            seconds=time.perf_counter() - began,
            server_seconds=self.watch.seconds,
            bytes_down=bytes_of(messages),
            bytes_up=bytes_of(replies),
            updates=self.replies.updates,
            set_aside=self.replies.set_aside,
            tested=tested,
            method=self.method_metrics,
        )
        for observer in self.observers:
            observer.on_round(report)
        return report

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round: the model, what the method broadcasts (FedHPro: S), all settings, whom it is for."""
        clients, evaluation = self.config.clients, self.config.evaluation
        partitions = sample_partitions(
            self.config.partition.num_partitions, clients.per_round,
            seed=self.config.seed, server_round=server_round, sampling=clients.sampling,
        )  # fmt: skip
        # The model that enters round r is the result of round r - 1: testing it on arrival costs no message of its own.
        evaluate = (
            evaluation.clients_every > 0 and server_round > 1 and (server_round - 1) % evaluation.clients_every == 0
        )
        self.sent = self._messages("train", server_round, arrays, config, partitions, evaluate=evaluate)
        return self.sent

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check, average, and let the method move its state.

        Raises:
            QuorumError: fewer good replies than `clients.quorum` asks for.
        """
        asked = {message.metadata.message_id: asked_partition(message) for message in self.sent}
        expected = Expected(self.model, self.method.expects(self.model), len(self.model["head.bias"]))
        self.replies = collect(replies, asked, expected)
        for reason in self.replies.set_aside:
            log(WARNING, "round %d: set aside: %s", server_round, reason)
        self.replies.require(self.config.clients.quorum, len(asked), server_round)

        sent, updates = self.model, self.replies.updates  # in partition order
        with self.watch("aggregation"):
            mean = weighted_mean([update.model for update in updates], [update.num_examples for update in updates])
        # FedHPro: mean class gradients g [C, D], calibration where asked, M matching steps on S [P.2]
        step = self.method.server_step(
            self.state, sent, mean, updates, Draws(self.config.seed, server_round), self.watch
        )
        self.model, self.state, self.method_metrics = step.model, step.state, dict(step.metrics)
        return array_record(self.model), MetricRecord({"train-loss": mean_loss(updates)})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The model to every client, for its own test data: once, after the last round."""
        return self._messages("evaluate", server_round, arrays, config, sorted(self.nodes), evaluate=True)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Accuracy over all clients' test samples, and each client's own."""
        tested: dict[int, dict[str, float]] = {}
        for reply in replies:
            numbers = {} if reply.has_error() else numbers_of(reply.content.metric_records.get(METRICS, MetricRecord()))
            correct, examples = numbers.get("test-correct", -1), numbers.get("test-examples", -1)
            if numbers.get("partition-id") in self.nodes and 0 <= correct <= examples < math.inf:
                tested[int(numbers["partition-id"])] = numbers
            else:
                log(WARNING, "evaluation: a reply of node %s is set aside", reply.metadata.src_node_id)
        self.tested_clients = [tested[partition] for partition in sorted(tested)]
        accuracy = clients_accuracy(self.tested_clients)
        return None if accuracy is None else MetricRecord({"accuracy": accuracy, "clients": len(self.tested_clients)})

    def summary(self) -> None:
        """Log the settings as a tree."""
        section = ""
        for key, value in self.config.flat().items():
            head, _, leaf = key.rpartition(".")
            if head != section:
                log(INFO, "├── %s", head)
                section = head
            log(INFO, "%s %s = %s", "│   ├──" if head else "├──", leaf, value)

    def tensors(self) -> dict[str, Tensor]:
        """The method's state as named tensors, to be saved."""
        return self.method.tensors(self.state)

    def _messages(
        self,
        kind: str,
        server_round: int,
        arrays: ArrayRecord,
        extra: ConfigRecord,
        partitions: Iterable[int],
        *,
        evaluate: bool,
    ) -> list[Message]:
        sent = self.method.broadcast(self.state) if kind == "train" else {}  # a test needs the model alone
        broadcast = {name: array_record({name: tensor}) for name, tensor in sent.items()}
        settings = {**self.config.flat(), **scalars(extra)}
        messages = []
        for partition in partitions:
            task = Task(server_round, partition, evaluate, code_fingerprint(), self.data)
            content = pack_broadcast(arrays, broadcast, settings, task)
            messages.append(Message(content, dst_node_id=self.nodes[partition], message_type=kind))
        return messages

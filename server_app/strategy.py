"""THE round, top to bottom: broadcast, collect, check, average, match, test, tell.

What is particular to FedHPro is named at the line that calls it and written in fedhpro_flwr/methods/fedhpro.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import Tensor

from fedhpro_flwr.accuracies import NO_BREAKDOWN, Breakdown, ClientsTested
from fedhpro_flwr.client.privacy import worst_spent
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.head import head_shape
from fedhpro_flwr.methods import Method, build_method
from fedhpro_flwr.methods.hook_checks import checked, refuse_records, restored
from fedhpro_flwr.records import OwnTest, Tensors, Update, array_record, tensors_of
from fedhpro_flwr.runs.checkpoint import Checkpoint
from fedhpro_flwr.runs.reports import Observer, RoundReport, mean_loss
from fedhpro_flwr.runs.resume import run_so_far
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.server.clients import Clients
from fedhpro_flwr.server.contrary import without_contrary
from fedhpro_flwr.server.flower_result import EvaluateFn, note_evaluation, note_round, refuse_settings, train_record
from fedhpro_flwr.server.global_evaluation import ServerTest
from fedhpro_flwr.server.replies import OF_EVERY_REPLY, Collected, released
from fedhpro_flwr.server.reply_checks import expected_updates, unpack_test
from fedhpro_flwr.settings.flat_keys import tree
from fedhpro_flwr.timing import Stopwatch


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
        breakdown: along what the clients' own tests are reported.
        encoders: initial models by architecture, where `model.share = "group"` averages several; Flower's own results
            (`Result.arrays`, `evaluate_fn`) then hold the head alone.
        resume: the checkpoint to go on from; None to begin with round 1.
        samples: each client trains on so many, and a reply that says otherwise is set aside; () where only they know.
        run: names a run that begins, in what clients keep of it; drawn if left out.

    Raises:
        ConfigError: the checkpoint is of a run with other settings or other data, or `config` names no method.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        test: ServerTest | None = None,
        observers: Sequence[Observer] = (),
        data: str = "",
        method: Method | None = None,
        breakdown: Breakdown = NO_BREAKDOWN,
        encoders: Mapping[str, Tensors] | None = None,
        resume: Checkpoint | None = None,
        samples: Sequence[int] = (),
        run: str = "",
    ) -> None:
        self.config, self.test, self.observers, self.data = config, test, tuple(observers), data
        self.method = method or build_method(config)
        self.breakdown, self.encoders, self.resume = breakdown, encoders, resume
        self.so_far = run_so_far(resume, config, data, run)
        self.clients = Clients(config, self.so_far, data)
        self.samples = () if config.privacy.withhold else tuple(samples)  # withheld, the number says nothing
        self.num_classes, self.model = 0, GlobalModel({})
        self.state: object = None
        self.watch = Stopwatch()
        self.replies: Collected[Update] = Collected([], [])
        self.method_metrics: dict[str, float] = {}
        self.tests: Sequence[OwnTest] = ()  # of the clients, after the last round

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
            QuorumError: too few clients replied well in a round, however often it was repeated.
            ConfigError: the nodes are not those the settings need, `initial_arrays` are no model, or settings for the
                clients alone: both halves go by `config`.
        """
        refuse_settings(train_config, evaluate_config)
        config, result = self.config, Result()
        num_rounds = config.rounds if num_rounds is None else num_rounds
        timeout = timeout or config.clients.timeout
        self.summary()
        initial = tensors_of(initial_arrays)
        members = config.model.architectures(config.partition.num_partitions)
        self.model = GlobalModel.start(initial, self.method.share, self.encoders, members)
        self.num_classes, width = head_shape(initial)
        self.state = self.method.start(initial)  # FedHPro: S ~ N(0, 1)
        refuse_records(self.method, self.state)
        if self.resume:
            self.model = self.resume.model(self.model)
            self.state = restored(self.method, self.state, self.resume.method)
        self.clients.begin(grid, width, timeout)
        note_evaluation(result, self.so_far.rounds_before, array_record(self.model.shared), evaluate_fn)
        for server_round in range(self.so_far.rounds_before + 1, num_rounds + 1):
            report = self.play(server_round, grid, timeout, is_last=server_round == num_rounds)
            note_round(result, report, array_record(self.model.shared), evaluate_fn)
        result.arrays = array_record(self.model.shared)
        tested, _ = self.clients.until_quorum(
            partial(self.clients_test, num_rounds, grid, timeout), timeout, self.watch
        )
        if tested is not None:
            result.evaluate_metrics_clientapp[num_rounds] = tested
        return result

    def play(self, server_round: int, grid: Grid, timeout: float, *, is_last: bool) -> RoundReport:
        """One round: `attempt`, below the quorum once more, `clients.retries` times at most; then the server's test."""
        began, self.watch = time.perf_counter(), Stopwatch()
        self.clients.new_round()
        _, earlier = self.clients.until_quorum(partial(self.attempt, server_round, grid, timeout), timeout, self.watch)
        tested = None
        if self.test and (is_last or server_round % self.config.evaluation.every == 0):
            with self.watch("evaluation"):
                tested = self.test(self.model, *self.method.tested_scores(self.method.broadcast(self.state)))
        report = RoundReport.of(
            server_round,
            seconds=time.perf_counter() - began,
            server_seconds=self.watch.seconds,
            bytes_down=dict(self.clients.bytes_down),
            bytes_up=dict(self.clients.bytes_up),
            updates=self.replies.good,
            set_aside=[*earlier, *self.clients.roster.unanswered.told(), *self.replies.set_aside],
            received=ClientsTested.of([u.test for u in self.replies.good if u.test], self.breakdown),
            tested=tested,
            method=self.method_metrics,
        )
        for observer in self.observers:
            observer.on_round(report)
        return report

    def attempt(self, server_round: int, grid: Grid, timeout: float) -> None:
        """Ask the drawn clients whose nodes are there, and take their replies.

        Raises:
            QuorumError: fewer good replies, or nodes to ask, than `clients.quorum` needs; nothing has changed then.
        """
        self.replies = Collected([], [])  # of the round before: its models are not held beside those of this one
        with self.watch("waiting"):
            self._update_roster(timeout)
        messages = self.configure_train(server_round, array_record(self.model.shared), ConfigRecord(), grid)
        known = (*OF_EVERY_REPLY, *self.method.expects(self.state))
        with self.watch("waiting"):
            replies = self.clients.send_and_receive(messages, timeout, known)
        self.aggregate_train(server_round, released(replies))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round: the model, what the method broadcasts (FedHPro: S), all settings, whom it is for."""
        self.clients.draw(server_round)
        # The model that enters round r is the result of round r - 1: testing it on arrival costs no message of its own.
        evaluate = self.config.evaluation.by_clients(server_round - 1) and not self.config.privacy.withhold
        state = self.method.broadcast(self.state)
        return self.clients.messages("train", server_round, self.model, arrays, state, evaluate=evaluate)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check, average, and let the method move its state.

        Raises:
            QuorumError: fewer good replies than `clients.quorum` asks for.
        """
        unpack = expected_updates(
            self.model,
            self.method.expects(self.state),
            num_classes=self.num_classes,
            num_domains=self.breakdown.num_domains,
            max_update_norm=self.config.aggregation.max_update_norm,
            samples=self.samples,
        )
        self.replies = self.clients.collect(replies, unpack)
        if self.config.aggregation.drop_contrary:
            self.replies = without_contrary(self.replies, self.model.shared)
        self.replies.tell(f"round {server_round}")
        self.replies.require(self.config.clients.quorum, self.clients.drawn, server_round)

        sent, updates = self.model, self.replies.good  # in partition order
        with self.watch("aggregation"):
            mean = sent.mean(updates, self.config.aggregation)  # w = sum_k n_k w_k / sum_k n_k [R.c1]
        # FedHPro: mean class gradients g [C, D], calibration where asked, M matching steps on S [P.2]
        draws = Draws(self.config.seed, server_round)
        step = self.method.server_step(self.state, sent.shared, mean.shared, updates, draws, self.watch)
        step = checked(step, mean.shared, self.method)
        self.model, self.state = mean.with_shared(step.model), step.state
        self.clients.visits.count(self.clients.visit, (update.partition_id for update in updates))
        if step.voids:  # SCAFFOLD, where a client lost its control variate
            self.clients.visits.void()
        spent = worst_spent(u.metrics for u in updates if self.config.privacy.withhold)
        self.method_metrics = {**step.metrics, **spent}
        return array_record(self.model.shared), train_record(mean_loss(updates))

    def clients_test(self, server_round: int, grid: Grid, timeout: float) -> MetricRecord | None:
        """After the last round: every client whose node is there tests what it ended with."""
        self._update_roster(timeout)
        arrays = array_record(self.model.shared)
        messages = self.configure_evaluate(server_round, arrays, ConfigRecord(), grid)
        return self.aggregate_evaluate(server_round, self.clients.send_and_receive(messages, timeout, OF_EVERY_REPLY))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The model to every client, for its own test data: once, after the last round."""
        self.clients.call(nobody=self.config.privacy.withhold)  # own tests have no noise
        # As in a round, a client tests what would enter the next one: what it kept after this one is part of it.
        state = self.method.broadcast(self.state)
        return self.clients.messages("evaluate", server_round + 1, self.model, arrays, state, evaluate=True)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Mean over the clients of their accuracy on their own test data; `tests` keeps each client's results.

        Raises:
            QuorumError: the server has nothing to test, and fewer clients than `clients.quorum` said anything.
        """
        sizes = (self.num_classes, self.breakdown.num_domains)
        tests = self.clients.collect(replies, lambda reply, client: unpack_test(reply.content, *sizes))
        tests.tell("evaluation")
        if self.test is None:  # nothing else is known of the run, and it can be resumed for these
            tests.require_heard(self.config.clients.quorum, self.clients.drawn, "the test after the last round")
        self.tests = tests.good
        tested = ClientsTested.of(self.tests, self.breakdown)
        return MetricRecord({"accuracy": tested.accuracy, "clients": len(self.tests)}) if tested else None

    def summary(self) -> None:
        """Log the settings as a tree."""
        for line in tree(self.config.flat()):
            log(INFO, "%s", line)

    def tensors(self) -> dict[str, Tensor]:
        """The method's state as named tensors, to be saved."""
        return self.method.tensors(self.state)

    def _update_roster(self, timeout: float) -> None:
        """Who plays the clients now; a node that came may have brought an architecture of its own."""
        self.clients.update(timeout)
        self.breakdown = self.breakdown.by_architecture(self.clients.roster.architectures)

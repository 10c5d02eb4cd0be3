"""What Flower asks of a strategy beside the round: one evaluation, a record of the run, a summary of the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from fedhpro_flwr.accuracies import Breakdown, ClientsTested
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.head import with_head
from fedhpro_flwr.methods import Method
from fedhpro_flwr.records import TRAIN_LOSS, OwnTest, array_record
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.server.clients import Clients
from fedhpro_flwr.server.global_evaluation import ServerTest
from fedhpro_flwr.server.reply_checks import unpack_test
from fedhpro_flwr.settings.flat_keys import tree

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


class FlowerStrategy(Strategy):
    """Flower's hooks except those of a round. A run has one evaluation with messages of its own: after the last round
    every client tests the final model. In the rounds, clients test the model when it arrives."""

    config: RunConfig
    method: Method
    clients: Clients
    test: ServerTest | None
    model: GlobalModel
    state: object
    num_classes: int
    known_breakdown: Breakdown
    tests: Sequence[OwnTest] = ()  # of the clients, after the last round
    result: Result  # Flower's own record of the run
    evaluate_fn: EvaluateFn | None = None  # the caller's own test

    @property
    def breakdown(self) -> Breakdown:
        """What the clients' tests are reported by; a node that joined may have brought another architecture."""
        return self.known_breakdown.by_architecture(self.clients.roster.architectures)

    def last_test(self, server_round: int, grid: Grid) -> MetricRecord | None:
        """Ask every client whose node is there."""
        self.clients.update()
        messages = self.configure_evaluate(server_round, self.model.arrays, ConfigRecord(), grid)
        return self.aggregate_evaluate(server_round, self.clients.send_and_receive(messages))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The model to every client, for its own test data."""
        self.clients.call(nobody=self.config.privacy.withhold)  # own tests have no noise
        state = self.method.broadcast(self.state)
        return self.clients.messages("evaluate", server_round, self.model, arrays, state, evaluate=True)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Mean over the clients of their accuracy on their own test data; `tests` keeps each client's results.

        Raises:
            QuorumError: the server has nothing to test, and fewer clients than `clients.quorum` said anything.
        """
        sizes = (self.num_classes, self.breakdown.num_domains)
        tests = self.clients.collect(replies, lambda reply, client: unpack_test(reply.content, *sizes))
        tests.tell("evaluation")
        if self.test is None:  # these tests are the run's only ones, and it can be resumed to make them
            tests.require_heard(self.config.clients.quorum, self.clients.drawn, "the test after the last round")
        self.tests = tests.good
        tested = ClientsTested.of(self.tests, self.breakdown)
        return own_tests_record(tested) if tested else None

    def note(self, report: RoundReport) -> None:
        """Add a round to Flower's record, and the caller's own test of the model after it."""
        self.result.train_metrics_clientapp[report.server_round] = train_record(report.train_loss)
        if report.received:  # tested on its arrival: the model after the round before
            self.result.evaluate_metrics_clientapp[report.server_round - 1] = own_tests_record(report.received)
        if report.tested:
            told = {"accuracy": report.tested.accuracy, "loss": report.tested.loss}
            tested = MetricRecord({name: value for name, value in told.items() if value is not None})
            self.result.evaluate_metrics_serverapp[report.server_round] = tested
        self.note_model(report.server_round)

    def note_model(self, server_round: int) -> None:
        """Put the model, with the head that decides in tests, in Flower's record, and run the caller's own test of it:
        before the first round and after every one."""
        head = self.method.tested_head(self.method.broadcast(self.state))
        self.result.arrays = self.model.arrays if head is None else array_record(with_head(self.model.shared, head))
        if self.evaluate_fn and (extra := self.evaluate_fn(server_round, self.result.arrays)) is not None:
            self.result.evaluate_metrics_serverapp.setdefault(server_round, MetricRecord()).update(extra)

    def summary(self) -> None:
        """Log the settings as a tree."""
        for line in tree(self.config.flat()):
            log(INFO, "%s", line)


def train_record(loss: float | None) -> MetricRecord:
    """What Flower is told of a round of training; nothing if no client tells its loss."""
    return MetricRecord({} if loss is None else {TRAIN_LOSS: loss})


def own_tests_record(tested: ClientsTested) -> MetricRecord:
    """What Flower is told of a model on the clients' own test data."""
    return MetricRecord({"accuracy": tested.accuracy, "clients": tested.clients})


def refuse_settings(train_config: ConfigRecord | None, evaluate_config: ConfigRecord | None) -> None:
    """Refuse the settings that Flower's own strategies would hand to the clients alone.

    Raises:
        ConfigError: one holds something. Server and clients must have the same settings: otherwise control variates,
            noise and checkpoints would be made for other settings than those of the training.
    """
    for name, given in (("train_config", train_config), ("evaluate_config", evaluate_config)):
        if given:
            raise ConfigError(
                f"{name} = {dict(given)}: settings belong in RunConfig, which the server reads too and sends to all "
                "clients; leave it out"
            )

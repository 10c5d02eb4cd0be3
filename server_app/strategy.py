"""THE round, top to bottom: broadcast, collect, check, average, match, test, tell.

Comments name what is particular to FedHPro at the lines that call it; its code is in fedhpro_flwr/methods/fedhpro.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from torch import Tensor

from fedhpro_flwr.accuracies import NO_BREAKDOWN, Breakdown, ServerTested
from fedhpro_flwr.client.privacy import worst_spent
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.head import head_shape
from fedhpro_flwr.methods import Method, build_method
from fedhpro_flwr.methods.hook_checks import checked, refuse_records, restored
from fedhpro_flwr.methods.restorable import refuse_unrestored, unstarted
from fedhpro_flwr.records import Tensors, Update, tensors_of
from fedhpro_flwr.runs.checkpoint import Checkpoint
from fedhpro_flwr.runs.reports import Observer, RoundReport, mean_loss
from fedhpro_flwr.runs.resume import run_so_far
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.server.clients import Clients
from fedhpro_flwr.server.contrary import without_contrary
from fedhpro_flwr.server.flower_strategy import EvaluateFn, FlowerStrategy, refuse_settings, train_record
from fedhpro_flwr.server.global_evaluation import ServerTest
from fedhpro_flwr.server.replies import Collected, released
from fedhpro_flwr.server.reply_checks import expected_updates, refuse_unsendable
from fedhpro_flwr.timing import Stopwatch


class FedHProStrategy(FlowerStrategy):
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
        breakdown: the class groups, domains and architectures by which the clients' own tests are reported.
        encoders: initial models by architecture, if `model.share = "group"` averages several; Flower's own results
            (`Result.arrays`, `evaluate_fn`) then hold the head alone.
        resume: the checkpoint to go on from; None to begin with round 1.
        samples: how many each client trains on [N]; a reply that says otherwise is set aside. () if only clients know.
        run: the name of a new run, under which clients keep their files of it; drawn at random if left out.

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
        self.unstarted = unstarted(self.method)
        self.known_breakdown, self.encoders, self.resume = breakdown, encoders, resume
        self.so_far = run_so_far(resume, config, data, run)
        self.clients = Clients(config, self.so_far, data)
        self.samples = () if config.privacy.withhold else tuple(samples)  # if withheld, replies do not say it
        self.num_rounds, self.num_classes, self.model = config.rounds, 0, GlobalModel({})
        self.initial: Tensors = {}
        self.state: object = None
        self.watch = Stopwatch()
        self.replies: Collected[Update] = Collected([], [])
        self.method_metrics: dict[str, float] = {}

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
        """Run all rounds. `num_rounds` and `timeout` default to the settings; `evaluate_fn` is called as in Flower.

        Raises:
            QuorumError: too few clients replied well in a round, however often it was repeated.
            ConfigError: the nodes are not those the settings need, `initial_arrays` are no model, `train_config` or
                `evaluate_config` holds settings (server and clients both go by `config`), or it was started before.
        """
        refuse_settings(train_config, evaluate_config)
        if self.initial:  # clients may keep what belongs to the first run
            raise ConfigError("this strategy has been started; make another one for another run")
        self.result, self.evaluate_fn = Result(), evaluate_fn
        config, before = self.config, self.so_far.server_round
        self.num_rounds = num_rounds = config.rounds if num_rounds is None else num_rounds
        self.summary()
        initial = tensors_of(initial_arrays)
        members = config.model.architectures(config.partition.num_partitions)
        self.model = GlobalModel.start(initial, self.method.share, self.encoders, members)
        refuse_unsendable(self.model)
        self.num_classes, width = head_shape(initial)
        with Draws(config.seed).torch_everywhere():
            self.state = self.method.start(initial)  # FedHPro: S ~ N(0, 1)
        refuse_records(self.method, self.state)
        if self.resume:
            self.model = self.resume.model(self.model)
            self.state = restored(self.method, self.state, self.resume.method)
        self.clients.begin(grid, width, timeout or config.clients.timeout)
        self.initial = initial
        self.note_model(before)
        for server_round in range(before + 1, num_rounds + 1):
            self.note(self.play(server_round, grid, is_last=server_round == num_rounds))
        tested, _ = self.clients.until_quorum(lambda: self.last_test(num_rounds, grid))
        if tested is not None:
            self.result.evaluate_metrics_clientapp[num_rounds] = tested
        return self.result

    def play(self, server_round: int, grid: Grid, *, is_last: bool) -> RoundReport:
        """One round: `attempt`, repeated below the quorum (`clients.retries` times at most); then the server's test."""
        self.watch = Stopwatch()
        self.clients.new_round(self.watch)
        _, earlier = self.clients.until_quorum(lambda: self.attempt(server_round, grid))
        if server_round == self.so_far.server_round + 1:
            refuse_unrestored(self.method, self.unstarted, self.initial, self.state)
        tested = self.tested() if is_last or server_round % self.config.evaluation.every == 0 else None
        report = RoundReport.of(
            server_round,
            watch=self.watch,
            bytes_down=self.clients.bytes_down,
            bytes_up=self.clients.bytes_up,
            updates=self.replies.good,
            set_aside=[*earlier, *self.clients.roster.unanswered.told(), *self.replies.set_aside],
            breakdown=self.breakdown,
            tested=tested,
            method=self.method_metrics,
        )
        for observer in self.observers:
            observer.on_round(report)
        return report

    def attempt(self, server_round: int, grid: Grid) -> None:
        """Ask the drawn clients whose nodes are there, and aggregate their replies.

        Raises:
            QuorumError: fewer good replies, or nodes to ask, than `clients.quorum` needs; the model is then unchanged.
        """
        self.replies = Collected([], [])  # frees the last round's models before those of this one arrive
        self.clients.update()
        messages = self.configure_train(server_round, self.model.arrays, ConfigRecord(), grid)
        replies = self.clients.send_and_receive(messages, self.method.expects(self.state))
        self.aggregate_train(server_round, released(replies))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A round's messages: the model, the method's broadcast (FedHPro: S), all settings, and whom each is for."""
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
        sizes, longest = (self.num_classes, self.breakdown.num_domains), self.config.aggregation.max_update_norm
        unpack = expected_updates(self.model, self.method.expects(self.state), *sizes, longest, self.samples)
        self.replies = self.clients.collect(replies, unpack)
        if self.config.aggregation.drop_contrary:
            self.replies = without_contrary(self.replies, self.model.shared)
        self.replies.tell(f"round {server_round}")
        self.replies.require(self.config.clients.quorum, self.clients.drawn, server_round)

        sent, updates = self.model, self.replies.good  # in partition order
        with self.watch("aggregation"):
            mean = sent.mean(updates, self.config.aggregation)  # w = sum_k n_k w_k / sum_k n_k [R.c1]
        # FedHPro: mean class gradients g [C, D], calibration if it is on, M matching steps on S [P.2]
        draws = Draws(self.config.seed, server_round)
        with draws.torch_everywhere():
            step = self.method.server_step(self.state, sent.shared, mean.shared, updates, draws, self.watch)
        step = checked(step, mean.shared, self.method)
        self.model, self.state = mean.with_shared(step.model), step.state
        self.clients.count(updates, voids=step.voids)  # SCAFFOLD voids what clients kept if one lost its own
        spent = worst_spent(u.metrics for u in updates if self.config.privacy.withhold)
        self.method_metrics = {**step.metrics, **spent}
        return self.model.arrays, train_record(mean_loss(updates))

    def tested(self) -> ServerTested | None:
        """The global model's results on the server's test data; None if there is no test."""
        if self.test is None:
            return None
        with self.watch("evaluation"):
            return self.test(self.model, *self.method.tested_scores(self.method.broadcast(self.state)))

    def tensors(self) -> dict[str, Tensor]:
        """The method's state as named tensors, to be saved."""
        return self.method.tensors(self.state)

"""The clients as the server reaches them: which are asked, what each is sent in which visit, and what comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from logging import WARNING
from typing import TypeVar

from flwr.app import DEFAULT_TTL, ArrayRecord, Message
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.introduction import UNNAMED
from fedhpro_flwr.records import Task, Tensors, Update, array_record, asked_clients, pack_broadcast
from fedhpro_flwr.runs.checkpoint import RunSoFar
from fedhpro_flwr.server.replies import Collected, QuorumError, Reply, bytes_of, collect, least
from fedhpro_flwr.server.reply_checks import OF_EVERY_REPLY
from fedhpro_flwr.server.roster import Roster
from fedhpro_flwr.server.seats import Seats
from fedhpro_flwr.timing import WAITING, Stopwatch
from fedhpro_flwr.visits import Visits, new_name

Attempt = TypeVar("Attempt")


class Clients:
    """The clients that are asked, from the draw to the replies; the strategy judges what they reply.

    Args:
        config: the settings, which travel with every message.
        so_far: the run as it begins, or as it is resumed.
        data: fingerprint of the partition that the clients are expected to use; "" if they bring their own data.
    """

    def __init__(self, config: RunConfig, so_far: RunSoFar, data: str) -> None:
        self._config, self._so_far, self._data = config, so_far, data
        self.visits = Visits(dict(so_far.counted))
        self.roster: Roster  # the nodes, from `begin` on
        self.seats = Seats({}, {})  # the clients that were drawn, and which of them are asked
        self.visit = ""  # the name of their visits; "" for a test, after which clients keep nothing
        self.asked: list[Message] = []
        self._timeout: float = config.clients.timeout
        self._failed: Collection[int] = ()  # those that answered with an error
        self.new_round(Stopwatch())

    def begin(self, grid: Grid, width: int, timeout: float) -> None:
        """Before the first round; `width` is D of the server's head, `timeout` how long a reply may take.

        Raises:
            ConfigError: the nodes are not those that the settings need.
        """
        self._timeout = timeout
        self.roster = Roster(grid, self._config, self._so_far, width)
        self.roster.begin(timeout)

    @property
    def drawn(self) -> int:
        """How many clients were drawn for the round, or the test: those that are asked, and those that cannot be."""
        return len(self.seats.clients)

    def new_round(self, watch: Stopwatch) -> None:
        """Count bytes, and seconds of waiting, from zero: for one round, however many attempts it takes."""
        self._watch = watch
        self.bytes_down: Counter[str] = Counter()  # by record
        self.bytes_up: Counter[str] = Counter()

    def update(self) -> None:
        """Find out who plays the clients now: nodes may have come or gone, or have become another client's."""
        with self._watch(WAITING):
            self.roster.update(self._timeout, self._failed)
        self._failed = ()

    def draw(self, server_round: int) -> None:
        """Draw the clients of a round, and give their visits a name that no other attempt at the round has.

        Raises:
            QuorumError: too few of them can be asked for the quorum, so the others would train in vain.
        """
        self.seats, self.visit = self.roster.draw(server_round), new_name(server_round)
        share, asked = self._config.clients.quorum, len(self.seats.nodes)
        if asked < (needed := least(share, self.drawn)):
            absent = [f"client {client}: {reason}" for client, reason in sorted(self.seats.absent.items())]
            what = f"round {server_round}: {asked} of {self.drawn} clients can be asked"
            raise QuorumError.below(what, share, needed, absent, may_pass=True)

    def call(self, *, nobody: bool) -> None:
        """Call all clients for a test; with `nobody` none, as when they withhold their tests."""
        self.seats, self.visit = Seats({}, {}) if nobody else self.roster.everybody, ""

    def messages(
        self, kind: str, server_round: int, model: GlobalModel, shared: ArrayRecord, state: Tensors, *, evaluate: bool
    ) -> Sequence[Message]:
        """One message to each client that is asked; the messages share the records that they have in common.

        Args:
            kind: "train" or "evaluate".
            server_round: which round it is.
            model: its encoders go to their groups.
            shared: the tensors that all clients exchange.
            state: what the method broadcasts, by record name.
            evaluate: whether the received model is tested on the client's own data.
        """
        task = Task(
            server_round, UNNAMED, evaluate, code_fingerprint(), self._data, self._so_far.run, self.visit,
            settled=self.visits.settled,
        )  # fmt: skip
        settings = self._config.flat()
        broadcast = {name: array_record({name: tensor}) for name, tensor in state.items()}
        models = {group: ArrayRecord({**array_record(encoder), **shared}) for group, encoder in model.encoders.items()}
        self.asked = []
        ttl = DEFAULT_TTL + self._timeout  # Flower gives a message up after DEFAULT_TTL seconds, 12 hours
        for client, node_id in self.seats.nodes.items():
            own = replace(task, partition_id=client, after=self.visits.after(client), needed=self.visits.needed(client))
            content = pack_broadcast(models.get(model.group(client), shared), broadcast, settings, own)
            self.asked.append(Message(content, dst_node_id=node_id, message_type=kind, ttl=ttl))
        self.bytes_down.update(bytes_of(self.asked))
        return self.asked

    def send_and_receive(self, messages: Iterable[Message], records: Collection[str] = ()) -> list[Message]:
        """The replies, as they came; bytes of records in neither OF_EVERY_REPLY nor `records` count as "other"."""
        with self._watch(WAITING):
            replies = self.roster.unanswered.send_and_receive(list(messages), self._timeout)
        self.bytes_up.update(bytes_of(replies, of=(*OF_EVERY_REPLY, *records)))
        return replies

    def collect(self, replies: Iterable[Message], unpack: Callable[[Message, int], Reply]) -> Collected[Reply]:
        """Which replies count, and why others do not; clients that could not be asked are among these others."""
        collected = collect(replies, asked_clients(self.asked), unpack, self.seats.absent)
        self._failed = collected.failed
        return collected

    def count(self, updates: Iterable[Update], *, voids: bool) -> None:
        """Count these replies, and what their clients kept after this visit; with `voids` all clients begin anew."""
        self.visits.count(self.visit, (update.partition_id for update in updates))
        if voids:
            self.visits.void()

    def until_quorum(self, attempt: Callable[[], Attempt]) -> tuple[Attempt, tuple[str, ...]]:
        """Make an attempt; while below the quorum, pause for nodes to come and repeat, `clients.retries` times at most.

        An attempt below the quorum has not touched the server's state, and what its clients have kept after it does not
        count (visits.py). A round is not repeated for clients that replied badly: they would do so again.

        Returns:
            What the attempt returned, and who was set aside in earlier ones.

        Raises:
            QuorumError: the last attempt's.
        """
        earlier: list[str] = []
        number = 1
        while True:
            try:
                return attempt(), tuple(earlier)
            except QuorumError as lost:
                if number > self._config.clients.retries or not lost.may_pass:
                    raise
                log(WARNING, "%s; it is repeated", lost)
                earlier += [f"attempt {number}: {reason}" for reason in lost.set_aside]
            with self._watch(WAITING):
                self.roster.pause(self.seats.clients, self._timeout)
            number += 1

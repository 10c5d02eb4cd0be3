"""The replies of a round: which count, in which order they are summed, and why the others do not count."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING
from typing import Generic, TypeVar

from flwr.app import Message
from flwr.common.logger import log

from fedhpro_flwr.listed import first_ten, listed
from fedhpro_flwr.printable import legible
from fedhpro_flwr.records import OF_THE_CLIENT, OwnTest, Update, error_reason, record_bytes
from fedhpro_flwr.server.reply_checks import BadReply

Reply = TypeVar("Reply", Update, OwnTest)

OTHER = "other"  # records that nobody asked for
CLIENT = "client "  # stands, with the client's number, before a reason
NOBODY = -1  # the partition of a reply that answers none of the round's messages


class QuorumError(RuntimeError):
    """Too few clients replied well; the message names the round and ten of the clients that did not.

    Args:
        sentence: the message.
        set_aside: all clients that did not reply well, each with its reason.
        may_pass: whether so many of these were not heard at all that the round may succeed when it is repeated.
    """

    def __init__(self, sentence: str, set_aside: Sequence[str] = (), *, may_pass: bool = False) -> None:
        super().__init__(sentence)
        self.set_aside, self.may_pass = set_aside, may_pass

    @classmethod
    def below(cls, what: str, share: float, needed: int, set_aside: Sequence[str], *, may_pass: bool) -> QuorumError:
        """With a sentence of what happened, what the quorum needs, and why."""
        sentence = f"{what}, clients.quorum = {share} needs {needed}; {together(set_aside)}"
        return cls(sentence, set_aside, may_pass=may_pass)


@dataclass(frozen=True, eq=False)
class Collected(Generic[Reply]):
    """The replies of one round."""

    good: Sequence[Reply]  # those that count, in partition order, so that float sums come out the same every time
    set_aside: Sequence[str]  # the others, each with its client and reason
    unheard: int = 0  # clients that said nothing: their node is gone, hangs, or Flower lost what was sent
    failed: Collection[int] = ()  # clients that answered with an error of their own

    def tell(self, when: str) -> None:
        """Log who was set aside, and why."""
        for reason in first_ten(self.set_aside):
            log(WARNING, "%s: set aside: %s", when, reason)

    def require(self, share: float, asked: int, server_round: int) -> None:
        """Go on only if enough clients replied well.

        Raises:
            QuorumError: fewer than `share` of the `asked` clients did.
        """
        needed = least(share, asked)
        if len(self.good) < needed:
            what = f"round {server_round}: {len(self.good)} of {asked} clients replied well"
            may_pass = len(self.good) + self.unheard >= needed
            raise QuorumError.below(what, share, needed, self.set_aside, may_pass=may_pass)

    def require_heard(self, share: float, asked: int, what: str) -> None:
        """Go on only if enough clients replied at all: in a test, one without test data cannot reply any better.

        Raises:
            QuorumError: fewer than `share` of the `asked` clients did.
        """
        heard, needed = asked - self.unheard, least(share, asked)
        if heard < needed:
            what = f"{what}: {heard} of {asked} clients replied"
            raise QuorumError.below(what, share, needed, self.set_aside, may_pass=True)


def least(share: float, asked: int) -> int:
    """The number of clients that is `share` of those asked, at least one if any is."""
    return max(min(asked, 1), math.ceil(round(share * asked, 9)))  # 0.7 * 10 is a little more than 7 in floating point


def collect(
    replies: Iterable[Message],
    asked: Mapping[str, int],
    unpack: Callable[[Message, int], Reply],
    absent: Mapping[int, str],
) -> Collected[Reply]:
    """Check every reply before it touches the state.

    Args:
        replies: as they came.
        asked: message id -> the partition it was for. The message that is replied to tells who replied: what the reply
            itself says is only the client's claim.
        unpack: reads and checks the reply of a client; raises BadReply.
        absent: clients that were drawn and could not be asked, each with the reason.
    """
    good: dict[int, Reply] = {}
    problems = dict.fromkeys(asked.values(), "did not reply") | dict(absent)
    unheard = set(problems)
    seen: set[int] = set()
    failed: set[int] = set()
    for reply in replies:
        if reply.has_error() and not reply.metadata.reply_to_message_id:
            continue  # the SuperLink's error about a message that it did not take: the node had just gone
        client = asked.get(reply.metadata.reply_to_message_id, NOBODY)
        try:
            if client == NOBODY:
                raise BadReply(f"from node {reply.metadata.src_node_id}")
            if client in seen:
                raise BadReply("replied twice")  # neither counts: which came first is chance
            seen.add(client)
            if reply.has_error():
                if reply.error.code in OF_THE_CLIENT:
                    failed.add(client)
                    unheard.discard(client)
                raise BadReply(error_reason(reply))
            unheard.discard(client)
            unpacked = unpack(reply, client)
            if unpacked.partition_id != client:
                raise BadReply(f"says that it is client {unpacked.partition_id}")
            good[client] = unpacked
            problems.pop(client)
        except BadReply as problem:
            good.pop(client, None)
            problems[client] = str(problem)
    return Collected(
        [good[client] for client in sorted(good)],
        [_named(client, legible(problems[client])) for client in sorted(problems)],
        len(unheard),
        failed,
    )


def released(messages: list[Message]) -> Iterator[Message]:
    """Each message once, removed from the list: unpacked tensors are copies, so a round is not held twice."""
    messages.reverse()
    while messages:
        yield messages.pop()


def bytes_of(messages: Iterable[Message], of: Collection[str] | None = None) -> dict[str, int]:
    """Bytes of tensor data per record, summed over the messages that carry any.

    Args:
        messages: sent or received.
        of: the records to count by name; others, whose names clients chose, count as "other". None for all.
    """
    total: dict[str, int] = {}
    for message in messages:
        if not message.has_error():
            for record, size in record_bytes(message.content).items():
                name = record if of is None or record in of else OTHER
                total[name] = total.get(name, 0) + size
    return total


def together(set_aside: Iterable[str]) -> str:
    """The first ten reasons as one sentence: one that several clients share comes once, after ten of their numbers."""
    clients: dict[str, list[str]] = {}
    for said in set_aside:
        who, found, reason = said.removeprefix(CLIENT).partition(": ")
        alone = not found or not said.startswith(CLIENT) or not who.isdecimal()
        clients.setdefault(said if alone else reason, []).extend([] if alone else [who])
    reasons = [
        f"{listed('client' if len(who) == 1 else 'clients', who)}: {reason}" if who else reason
        for reason, who in clients.items()
    ]
    return "; ".join(first_ten(reasons))


def _named(client: int, reason: str) -> str:
    if client == NOBODY:
        return f"a reply to no message of this round: {reason}"
    own = (f"{CLIENT}{client}: ", f"{CLIENT}{client} ")  # with the character after it: client 1 is not client 12
    return reason if reason.startswith(own) else f"{CLIENT}{client}: {reason}"

"""Waits for nodes, and reads their answers to who they are; some answers end a run before round 1."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING

from flwr.app import Message
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.introduction import UNNAMED, Introduction
from fedhpro_flwr.listed import first_ten
from fedhpro_flwr.printable import legible
from fedhpro_flwr.records import OF_THE_CLIENT, error_reason

POLL_SECONDS = 0.2
NODES_NEEDED = "clients.num-nodes = "  # in the message of TooFewNodes; launch/deployment.py recognises it by this


class TooFewNodes(ConfigError):
    """Fewer nodes than needed. They may still come, so a run that this ended can go on.

    Args:
        found: how many there are, as the message begins.
        needed: clients.num-nodes.
    """

    def __init__(self, found: str, needed: int) -> None:
        super().__init__(f"{found}, {NODES_NEEDED}{needed} {'is' if needed == 1 else 'are'} needed")


def wait_for_nodes(grid: Grid, num_nodes: int, timeout: float) -> list[int]:
    """The nodes' ids, once there are `num_nodes` of them (0: once there are some and no more appear).

    Raises:
        TooFewNodes: they did not come in time.
    """
    deadline = time.monotonic() + timeout
    before: list[int] = []
    while True:
        present = sorted(grid.get_node_ids())
        if present and (len(present) >= num_nodes if num_nodes else present == before):
            return present
        if time.monotonic() > deadline:
            raise TooFewNodes(f"{len(present)} nodes after {timeout:.0f} s", max(num_nodes, 1))
        before = present
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Answers:
    """What nodes said when they were asked who they are."""

    introduced: Sequence[Introduction]
    failed: Mapping[int, str]  # node id -> what was wrong with its answer
    unheard: Collection[int] = ()  # the failed ones that Flower could not reach

    @property
    def problems(self) -> list[str]:
        """What was wrong, one sentence per node."""
        return list(self.failed.values())

    @property
    def heard(self) -> int:
        """How many nodes answered at all, well or badly."""
        return len(self.introduced) + len(self.failed.keys() - set(self.unheard))

    def and_then(self, later: Answers, there: Collection[int]) -> Answers:
        """These answers and later ones, as one: the latest answer of each node that is `there`."""
        kept = set(there) - {*later.failed, *(node.node_id for node in later.introduced)}
        return Answers(
            [*(node for node in self.introduced if node.node_id in kept), *later.introduced],
            {node_id: problem for node_id, problem in self.failed.items() if node_id in kept} | dict(later.failed),
            {*kept.intersection(self.unheard), *later.unheard},
        )


def read_answers(replies: Iterable[Message], queries: Mapping[str, int]) -> Answers:
    """Read the replies to queries.

    Args:
        replies: as they came.
        queries: message id -> node id, as Flower's own errors come from the SuperLink, whichever node they are about.
    """
    introduced: list[Introduction] = []
    failed: dict[int, str] = {}
    unheard: set[int] = set()
    for reply in replies:
        try:
            if reply.has_error():
                if reply.error.code not in OF_THE_CLIENT:
                    unheard.add(_asked(reply, queries))
                raise ValueError(f"node {_asked(reply, queries)}: {error_reason(reply)}")
            introduced.append(Introduction.unpack(reply))
        except ValueError as error:
            failed[_asked(reply, queries)] = legible(str(error))
    return Answers(introduced, failed, unheard)


def _asked(reply: Message, queries: Mapping[str, int]) -> int:
    return queries.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)


def refuse(answers: Answers, width: int, timeout: float) -> None:
    """Refuse what must end a run before round 1; after that, only the node that is wrong is set aside.

    Args:
        answers: those of all nodes.
        width: D of the server's head.
        timeout: seconds that the nodes had.

    Raises:
        ConfigError: no node that could train, one that runs other code, two with one partition, or two clients whose
            features have different widths.
    """
    nodes = answers.introduced
    ready = [node for node in nodes if not node.problem]
    problems = [*answers.problems, *(node.problem for node in nodes if node.problem)]
    if not ready:
        what = "no node could train" if nodes else "no node introduced itself"
        raise ConfigError(f"{what}: {problems[0] if problems else f'no answer in {timeout:.0f} s'}")
    for problem in first_ten(problems):
        # Its client stays with it, and is set aside by name in every round: no other node has its data.
        log(WARNING, "not ready to train: %s", problem)
    for problem in (*map(code_problem, nodes), width_problem(nodes, width)):
        if problem:
            raise ConfigError(problem)
    named: dict[int, int] = {}
    for node in nodes:
        if node.partition_id in named:
            raise ConfigError(
                f"nodes {named[node.partition_id]} and {node.node_id} both say partition-id = {node.partition_id}; "
                "give each its own"
            )
        if node.partition_id != UNNAMED:
            named[node.partition_id] = node.node_id


def code_problem(node: Introduction) -> str:
    """A sentence if the node runs other code than the server, else ""."""
    if node.code == code_fingerprint():
        return ""
    return f"node {node.node_id} runs other code ({node.code}) than the server ({code_fingerprint()})"


def width_problem(nodes: Iterable[Introduction], width: int) -> str:
    """A sentence that names a client whose features differ in width from the server's head, which all share, and, if
    there is one, a client whose features fit; "" if all fit."""
    known = sorted((node for node in nodes if node.width), key=lambda node: node.partition_id)
    fitting = next((node.name for node in known if node.width == width), "")
    for node in known:
        if node.width != width:
            other = f"{fitting} and the server's head" if fitting else "the server's head"
            return (
                f"{node.name} has features of width {node.width}, {other} of width {width}; "
                f"give every model the same width ({'model.width' if node.architecture else 'in_features of its head'})"
            )
    return ""

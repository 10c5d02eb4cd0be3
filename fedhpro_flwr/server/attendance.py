"""Which nodes are there, and what each last said of itself.

A Flower node with an authentication key keeps its id when it restarts, and the SuperLink never notices a quick restart:
what the node said before may no longer hold. So nodes that play no client, and those whose clients answered with an
error, are asked again.
"""

from __future__ import annotations

from collections.abc import Collection
from logging import WARNING

from flwr.app import RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedhpro_flwr.introduction import Introduction
from fedhpro_flwr.server.answers import code_problem, refuse, width_problem
from fedhpro_flwr.server.inquiries import JOIN_SECONDS, Inquiries


class Attendance:
    """The nodes of a run.

    Args:
        grid: to ask through.
        question: the content of each question.
        width: D of the server's head.
    """

    def __init__(self, grid: Grid, question: RecordDict, width: int) -> None:
        self._grid, self._width = grid, width
        self._inquiries = Inquiries(grid, question)
        self.known: dict[int, Introduction] = {}  # those that are there, by node id
        self.heard: Collection[int] = ()  # nodes that said who they are at the last update
        self._told: set[str] = set()  # problems with answers that have been logged, so that each is logged once
        self._refused: dict[int, tuple[int, str]] = {}  # node id -> the client it names, and what is wrong with it

    def begin(self, num_nodes: int, timeout: float) -> list[Introduction]:
        """Before the first round: wait for the nodes and ask each who it is and whether it could train.

        Raises:
            ConfigError: too few nodes, none that could train, a node that runs other code, two nodes with one
                partition, or two clients whose features have different widths.
        """
        answers = self._inquiries.all_answers(num_nodes, timeout)
        refuse(answers, self._width, timeout)
        self.known = {node.node_id: node for node in answers.introduced}
        return list(answers.introduced)

    def update(self, timeout: float, doubted: Collection[int]) -> list[Introduction]:
        """Before a round: forget the nodes that are gone; return those that came, or say something else than before.

        It takes one request to the SuperLink if nothing has changed. A node seen for the first time is waited for,
        JOIN_SECONDS at most; what it says later, and what others say when they are asked again, counts from the next
        round on.

        Args:
            timeout: seconds after which a question counts as lost.
            doubted: nodes to ask again, beside those that were refused.
        """
        there = set(self._grid.get_node_ids())
        for gone in self.known.keys() - there:
            del self.known[gone]
        for gone in self._refused.keys() - there:
            del self._refused[gone]
        late = self._inquiries.fetch(there, timeout, {*doubted, *self._refused})
        asked = {*self.known, *self._refused, *(node.node_id for node in late.introduced), *self._inquiries.asked}
        came = self._inquiries.ask(there - asked, min(JOIN_SECONDS, timeout))
        for problem in sorted({*late.problems, *came.problems} - self._told):
            log(WARNING, "a node did not introduce itself: %s", problem)
            self._told.add(problem)
        said = [*late.introduced, *came.introduced]
        self.heard = {node.node_id for node in said}
        return [node for node in said if self._admit(node)]

    def problem_of(self, client: int) -> str:
        """What is wrong with the node that names a client, if there is such a node and it is set aside; else ""."""
        return next((problem for named, problem in self._refused.values() if named == client), "")

    def _admit(self, node: Introduction) -> bool:
        """Take in a node's answer, or set the node aside if it is wrong; returns whether an admitted one says news."""
        before = self.known.pop(node.node_id, None)
        if problem := code_problem(node) or width_problem([node], self._width):
            news = self._refused.get(node.node_id) != (node.partition_id, problem)
            self._refused[node.node_id] = (node.partition_id, problem)
            if news:
                log(WARNING, "set aside: %s", problem)
            return False
        self._refused.pop(node.node_id, None)
        self.known[node.node_id] = node
        if node.problem and (before is None or before.problem != node.problem):
            log(WARNING, "not ready to train: %s", node.problem)
        return node != before

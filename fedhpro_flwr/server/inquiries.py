"""Asks nodes who they are: once, and again after an error or a doubtful answer. No round waits for a late answer."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from logging import WARNING

from flwr.app import Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from fedhpro_flwr.listed import listed
from fedhpro_flwr.server.answers import Answers, TooFewNodes, read_answers, wait_for_nodes

JOIN_SECONDS = 30.0  # how long a round waits for new nodes at most; one takes 7 to 10 s to answer
QUIET_SECONDS = 30.0  # after JOIN_SECONDS, a run begins without the silent nodes once no answer came for this long
AGAIN_SECONDS = 30.0  # least time between two questions to a node whose answer is in doubt
POLL_SECONDS = 1.0


class Inquiries:
    """The questions of a run that have no answer yet.

    Args:
        grid: to ask through.
        question: the content of each question.
    """

    def __init__(self, grid: Grid, question: RecordDict) -> None:
        self._grid, self._question = grid, question
        self._open: dict[str, int] = {}  # message id -> node id, each node once at most
        # node id -> time.monotonic() when its last question was sent, or when waiting for the answer ended
        self._asked_at: dict[int, float] = {}
        self._failed: set[int] = set()  # nodes that answered with an error

    def all_answers(self, num_nodes: int, timeout: float) -> Answers:
        """The answers of the nodes before the first round; nodes that answer later join the run.

        All nodes have JOIN_SECONDS. After that it waits for `num_nodes` answers; if that is 0, for one, and for more as
        long as they keep coming: in a simulation on few cores nodes answer one after the other.

        Raises:
            TooFewNodes: fewer than `num_nodes` answered in time.
        """
        deadline = time.monotonic() + timeout
        answers = self.ask(wait_for_nodes(self._grid, num_nodes, timeout), min(JOIN_SECONDS, timeout))
        heard_at, told_at, told = time.monotonic(), -math.inf, list[int]()
        while self._waits(answers, num_nodes, time.monotonic() - heard_at):
            missing = sorted({*self._open.values(), *answers.unheard})
            if time.monotonic() >= deadline:
                if num_nodes:
                    raise TooFewNodes(f"{answers.heard} nodes answered in {timeout:.0f} s", num_nodes)
                break
            if missing != told and time.monotonic() - told_at >= JOIN_SECONDS:
                wanted = num_nodes or answers.heard + len(missing)
                log(WARNING, "%d of %d nodes answered, waited for: %s", answers.heard, wanted, listed("node", missing))
                told_at, told = time.monotonic(), missing
            time.sleep(POLL_SECONDS)
            there = set(self._grid.get_node_ids())
            late = self.fetch(there, math.inf)  # no second question: it would delay nodes that answer one by one
            known = {node.node_id for node in (*answers.introduced, *late.introduced)}
            came = self.ask(there - known - self.asked, min(JOIN_SECONDS, timeout))
            before, answers = answers.heard, answers.and_then(late, there).and_then(came, there)
            if answers.heard > before:
                heard_at = time.monotonic()
        if self._open:
            log(WARNING, "the run begins without an answer of %s", listed("node", sorted(self._open.values())))
        return answers

    def _waits(self, answers: Answers, num_nodes: int, quiet: float) -> bool:
        """Whether a beginning run waits for more than these answers, the last of which came `quiet` seconds ago."""
        if num_nodes:
            return answers.heard < num_nodes
        if not answers.heard:  # the SuperLink lists nodes that have just ended for two heartbeats more
            return True
        return bool(self._open) and (not answers.introduced or quiet < QUIET_SECONDS)

    def ask(self, node_ids: Iterable[int], timeout: float) -> Answers:
        """Ask nodes and wait for their answers."""
        questions = self._questions(node_ids)
        if not questions:
            return Answers([], {})
        replies = list(self._grid.send_and_receive(questions, timeout=timeout))
        self._note(questions)
        return self._read(replies)

    def fetch(self, there: Collection[int], timeout: float, doubted: Collection[int] = ()) -> Answers:
        """What was answered in the meantime. Nodes that answered with an error are asked again, without waiting.

        Args:
            there: the nodes that are there; answers of the others are no longer needed.
            timeout: seconds after which a question counts as lost, and its node is asked again too: a node with a key
                that restarts while it answers keeps its id, but does not know the question any more.
            doubted: nodes to ask again as well; these, and those with an error, are asked every AGAIN_SECONDS at most.
        """
        self._open = {asked: node_id for asked, node_id in self._open.items() if node_id in there}
        again = {node_id for node_id in self._failed if node_id in there and self._may_be_asked_again(node_id)}
        self._failed = self._failed.intersection(there) - again
        answers = self._read(list(self._grid.pull_messages(list(self._open))) if self._open else [])
        now = time.monotonic()
        lost = {asked for asked, node_id in self._open.items() if now - self._asked_at[node_id] >= timeout}
        again |= {self._open.pop(asked) for asked in lost}
        again |= {node_id for node_id in doubted if node_id in there and self._may_be_asked_again(node_id)}
        if questions := self._questions(again):
            self._grid.push_messages(questions)
            self._note(questions)
        return answers

    @property
    def asked(self) -> set[int]:
        """The nodes that need not be asked now: an answer is due, or was an error."""
        return {*self._open.values(), *self._failed}

    def _may_be_asked_again(self, node_id: int) -> bool:
        last = self._asked_at.get(node_id, -math.inf)
        return node_id not in self._open.values() and time.monotonic() - last >= AGAIN_SECONDS

    def _questions(self, node_ids: Iterable[int]) -> list[Message]:
        return [Message(self._question, dst_node_id=node_id, message_type="query") for node_id in sorted(node_ids)]

    def _note(self, questions: Iterable[Message]) -> None:
        for question in questions:
            self._open[question.metadata.message_id] = question.metadata.dst_node_id
            self._asked_at[question.metadata.dst_node_id] = time.monotonic()

    def _read(self, replies: list[Message]) -> Answers:
        answers = read_answers(replies, self._open)
        for reply in replies:
            self._open.pop(reply.metadata.reply_to_message_id, None)
        self._failed |= answers.failed.keys()
        return answers

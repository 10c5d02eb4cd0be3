"""What a node says of itself when the server asks who it is: before round 1, when it joins, or when it is in doubt."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedhpro_flwr.printable import legible
from fedhpro_flwr.records import CONFIG, METRICS, numbers_of, scalars

LONGEST_NAME = 100  # characters that are kept of a node's model name, and of its code's fingerprint
UNNAMED = -1  # partition id of a node that was given none


@dataclass(frozen=True)
class Introduction:
    """A node's answer, packed at the client and unpacked at the server."""

    node_id: int
    partition_id: int  # UNNAMED if it was given none
    code: str  # fingerprint of its sources
    architecture: str = ""
    width: int = 0  # D of its model; 0 if it does not know yet which client it plays
    problem: str = ""  # why it could not train now, if so

    @property
    def name(self) -> str:
        """What to call the node in a message."""
        who = f"node {self.node_id}" if self.partition_id == UNNAMED else f"client {self.partition_id}"
        return who + (f" ({self.architecture})" if self.architecture else "")

    def pack(self) -> RecordDict:
        """The content of the reply."""
        numbers = MetricRecord({"partition-id": self.partition_id, "width": self.width})
        texts = ConfigRecord({"code": self.code, "model": self.architecture, "problem": self.problem})
        return RecordDict({METRICS: numbers, CONFIG: texts})

    @classmethod
    def unpack(cls, reply: Message) -> Introduction:
        """The inverse of `pack`.

        Raises:
            ValueError: the reply is no introduction.
        """
        node = reply.metadata.src_node_id
        try:
            numbers = numbers_of(reply.content.metric_records[METRICS])
            texts = scalars(reply.content.config_records[CONFIG])
            return cls(
                node_id=node,
                partition_id=max(int(numbers["partition-id"]), UNNAMED),
                code=legible(str(texts["code"]), LONGEST_NAME),
                architecture=legible(str(texts.get("model", "")), LONGEST_NAME),
                width=int(numbers.get("width", 0)),
                problem=legible(str(texts.get("problem", ""))),
            )
        except (KeyError, ValueError, OverflowError) as error:
            raise ValueError(f"node {node}: its answer is no introduction ({error})") from None


def own_partition(context: Context) -> int:
    """The partition that a node's config gives it; UNNAMED if none, or a negative one."""
    return max(int(context.node_config.get("partition-id", UNNAMED)), UNNAMED)

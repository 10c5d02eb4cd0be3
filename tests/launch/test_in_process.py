"""Clients that are called as functions: what each is told, what it keeps, and what is answered if it raises."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedhpro_flwr.launch.in_process import InProcessGrid, run_in_process
from fedhpro_flwr.records import CLIENT_RAISED


def counting() -> ClientApp:
    """A client that says who it is and how often it was asked; it has no data if it is told so."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if "refuse" in message.content:
            raise ValueError("no data")
        before = context.state.config_records.get("asked", ConfigRecord({"times": 0}))
        context.state["asked"] = ConfigRecord({"times": before["times"] + 1})
        said = {**context.node_config, **context.run_config, "times": context.state["asked"]["times"]}
        assert (context.run_id, context.node_id) == (1, message.metadata.dst_node_id)
        return Message(RecordDict({"said": ConfigRecord(said)}), reply_to=message)

    return app


def to(grid: Grid, *nodes: int, refuse: bool = False) -> list[Message]:
    """A message to each of the nodes."""
    content = {"refuse": ConfigRecord()} if refuse else {}
    return [grid.create_message(RecordDict(dict(content)), "train", node, "1", 60.0) for node in nodes]


def said(replies: list[Message]) -> list[tuple[int, dict[str, Any]]]:
    return [(reply.metadata.src_node_id, dict(reply.content.config_records["said"])) for reply in replies]


def test_each_node_is_told_its_partition_and_the_settings_and_keeps_its_state() -> None:
    grid = InProcessGrid(counting(), 3, {"seed": 4})
    assert grid.get_node_ids() == [100, 101, 102]
    told = {"num-partitions": 3, "seed": 4}
    assert said(list(grid.send_and_receive(to(grid, 100, 102)))) == [
        (100, told | {"partition-id": 0, "times": 1}),
        (102, told | {"partition-id": 2, "times": 1}),
    ]
    assert said(list(grid.send_and_receive(to(grid, 102)))) == [(102, told | {"partition-id": 2, "times": 2})]


def test_messages_are_made_as_flower_makes_them() -> None:
    (message,) = to(InProcessGrid(counting(), 1), 100)
    made = message.metadata
    assert (made.dst_node_id, made.message_type, made.group_id, made.ttl) == (100, "train", "1", 60.0)


def test_a_reply_is_pulled_once() -> None:
    grid = InProcessGrid(counting(), 2)
    first, second = grid.push_messages(to(grid, 100, 101))
    for asked, answered in (([second, "unknown"], second), ([first, second], first)):
        (reply,) = grid.pull_messages(asked)
        assert reply.metadata.reply_to_message_id == answered
    assert grid.pull_messages([first, second]) == []


def test_a_client_that_raises_is_answered_for_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    grid = InProcessGrid(counting(), 2)
    refused, good = grid.send_and_receive([*to(grid, 100, refuse=True), *to(grid, 101)])
    assert (refused.metadata.src_node_id, refused.error.code) == (100, CLIENT_RAISED)
    assert refused.error.reason == "ValueError: no data"
    assert good.metadata.src_node_id == 101 and not good.has_error()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "ValueError: no data"
    assert record.exc_info and isinstance(record.exc_info[1], ValueError)


def test_a_server_app_is_given_the_nodes_and_the_settings_and_its_exceptions_come_through() -> None:
    server, seen = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        seen.append((list(grid.get_node_ids()), context.run_config, context.run_id))
        ((_, first),) = said(list(grid.send_and_receive(to(grid, 101))))
        seen.append((first["partition-id"], first["seed"]))
        raise ValueError("as it should be")

    with pytest.raises(ValueError, match=r"^as it should be$"):
        run_in_process(server, counting(), 2, {"seed": 4})
    assert seen == [([100, 101], {"seed": 4}, 1), (1, 4)]


def test_there_is_no_record_of_the_run() -> None:
    grid = InProcessGrid(counting(), 1)
    with pytest.raises(NotImplementedError, match="no run record"):
        _ = grid.run

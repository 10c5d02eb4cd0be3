"""Why a SuperLink did not take a run: which connection is looked at, and what is found there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import tomli_w

from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.launch import not_taken
from fedhpro_flwr.launch.flower import Flower, LaunchError, UnreachableError
from fedhpro_flwr.launch.not_taken import explained

AWAY = UnreachableError("the SuperLink does not answer")
SHUT = LaunchError("POST http://host:1/v1/control/start-run: 404 Not Found")


def flower(home: Path, **connection: str | bool) -> Flower:
    """One that spoke with this connection; there is another in its config.toml."""
    connections = {
        "theirs": {"address": "127.0.0.1:1"},
        "ours": {key.replace("_", "-"): connection[key] for key in connection},
    }
    (home / "config.toml").write_text(tomli_w.dumps({"superlink": connections}))
    return Flower(home, "ours", home)


def closed_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_nodes_door_is_named(tmp_path: Path) -> None:
    assert explained(SHUT, flower(tmp_path, address="fl.example.org:443")) == (
        "fl.example.org:443 is the nodes' door, a proxy that shows them the Fleet API alone; submit on the SuperLink's "
        "own machine, at 127.0.0.1, or through ssh -L"
    )


@pytest.mark.parametrize("said", ["404 Not Found", "/v1/control/start-run: 500", "[code: 9] No."])
def test_another_refusal_is_told_as_it_is(said: str, tmp_path: Path) -> None:
    assert explained(LaunchError(said), flower(tmp_path, address=f"127.0.0.1:{closed_port()}")) == said


def test_where_nothing_answers_the_cause_and_the_way_out_are_told(tmp_path: Path) -> None:
    port = closed_port()
    assert explained(AWAY, flower(tmp_path, address=f"127.0.0.1:{port}", insecure=True)) == (
        f"the SuperLink does not answer: 127.0.0.1:{port}: Connection refused; start the SuperLink or its proxy, and "
        f"let it listen on port {port} of an address nodes reach"
    )


@pytest.mark.parametrize("connection", [{"address": "no port"}, {}])
def test_of_an_address_that_only_flower_takes_nothing_more_is_told(connection: dict[str, str], tmp_path: Path) -> None:
    assert explained(AWAY, flower(tmp_path, **connection)) == "the SuperLink does not answer"


@pytest.mark.parametrize(
    ("connection", "insecure", "roots"),
    [
        ({"root_certificates": "/certs/ca.crt"}, False, Path("/certs/ca.crt")),
        ({"insecure": True}, True, None),
        ({"insecure": False}, False, None),
    ],
)
def test_its_certificate_is_looked_at_as_the_connection_says(
    connection: dict[str, str | bool],
    insecure: bool,
    roots: Path | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handshake(subject: Subject) -> Finding:
        link = subject.superlink
        assert link is not None and (link.address, link.insecure) == ("host:1", insecure)
        assert link.root_certificates == subject.root_certificates == roots
        return problem("tls", "certificate has expired", "issue another")

    monkeypatch.setattr(not_taken.superlink, "reached", lambda subject: ok("superlink", "answers"))
    monkeypatch.setattr(not_taken.tls, "handshake", handshake)
    said = explained(AWAY, flower(tmp_path, address="host:1", **connection))
    assert said == "the SuperLink does not answer: certificate has expired; issue another"


def test_what_is_no_problem_is_no_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(not_taken.superlink, "reached", lambda subject: None)
    monkeypatch.setattr(not_taken.tls, "handshake", lambda subject: warning("tls", "expires soon", "issue another"))
    assert explained(AWAY, flower(tmp_path, address="host:1")) == "the SuperLink does not answer"

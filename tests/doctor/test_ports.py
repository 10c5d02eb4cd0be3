"""The port that a SuperLink or SuperNode is to listen on, as `fedhpro doctor` finds it."""

import socket

import pytest

from fedhpro_flwr.doctor import ports
from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.subject import Subject

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


def to_listen(number):
    return Subject("superlink", Contact(f"127.0.0.1:{number}", insecure=True))


def test_the_defaults_are_flowers():
    from flwr.supercore.constant import SUPERLINK_UVICORN_DEFAULT_PORT, SUPERNODE_UVICORN_DEFAULT_PORT

    flowers = (SUPERLINK_UVICORN_DEFAULT_PORT, SUPERNODE_UVICORN_DEFAULT_PORT)
    assert flowers == (ports.SUPERLINK_PORT, ports.SUPERNODE_PORT)


def test_the_port_of_a_superlink(serve, unused):
    number = unused()
    finding = ports.port(to_listen(number))
    assert (finding.level, finding.found) == (OK, f"{number} is free")
    number = serve({})
    finding = ports.port(to_listen(number))
    assert (finding.level, finding.found) == (PROBLEM, f"{number} is in use, by no SuperLink")
    number = serve()
    finding = ports.port(to_listen(number))
    assert (finding.level, finding.found) == (OK, f"{number} is in use, by a SuperLink")
    free = unused()
    assert ports.port(Subject("superlink", to_listen(number).superlink, port=free)).found == f"{free} is free"


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_superlink_on_a_port_is_known_by_its_answer_alone(serve, trial, encrypted):
    number = serve(tls=trial if encrypted else None)
    finding = ports.port(Subject("superlink", port=number))
    assert (finding.level, finding.found) == (OK, f"{number} is in use, by a SuperLink")


def test_a_port_is_free_as_soon_as_its_last_server_has_ended():
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number)):
            server.accept()[0].close()  # who closes first keeps the connection in TIME_WAIT
    assert ports.is_free(number)


def test_the_port_of_a_supernode(monkeypatch, serve, unused):
    monkeypatch.setattr(ports, "SUPERNODE_PORT", unused())
    assert ports.port(Subject("supernode")).level is OK
    taken = serve()
    assert ports.port(Subject("supernode", port=unused())).level is OK
    assert ports.port(Subject("supernode", port=taken)).level is WARNING
    monkeypatch.setattr(ports, "SUPERNODE_PORT", taken)
    assert ports.port(Subject("supernode")).level is WARNING
    assert ports.port(Subject("simulation")) is None

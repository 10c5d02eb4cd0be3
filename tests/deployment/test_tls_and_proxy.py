"""A federation as docs/deployment.md sets it up: TLS, registered node keys, and nodes that reach the Fleet API alone.

The SuperLink, the SuperNodes and nginx are real, nginx with the configuration that is shipped.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cluster import TLS, Cluster
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from member import Member
from proxy import NAME, NGINX, Proxy, nginx
from safetensors.torch import load_file

from client_app.app import app as client_app
from fedhpro_flwr.certificates import make_certificates
from fedhpro_flwr.cli import main
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.launch.private_superlink import free_port
from fedhpro_flwr.runs.run_folder import read_rounds
from fedhpro_flwr.settings.from_command_line import prepare
from server_app.app import app as server_app

needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx on the path: the way in for nodes is not tested")
pytestmark = [needs_nginx, pytest.mark.simulation]
NODES = 2
SMALL = {
    "rounds": 1,
    "partition.num-partitions": NODES,
    "data.train-limit": 120,
    "local.epochs": 1,
    # A layer of 5.8 MB: more than one piece of an array as it travels, and more than nginx lets through by default.
    "model.name": "mlp",
    "model.width": 1200,
    "hyper-prototypes.matching-steps": 2,
    "evaluation.clients-every": 0,
}
CONTROL = "/v1/control/list-runs"
REFUSED = [
    CONTROL,
    "/v1/control/start-run",
    "/v1/runtime/acquire-task",
    "/health",
    "/openapi.json",
    "/",
    "/v1/fleet",
    "/v1/fleet/",
    f"//{CONTROL}",
    CONTROL.upper(),
    "/V1/fleet/pull-messages",
    f"/v1/fleet/..{CONTROL.removeprefix('/v1')}",
    "/v1/fleet/../../v1/control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs",
    "/v1/fleet/%2E%2E%2Fcontrol%2Flist-runs",
    "/v1/fleet/..%2fcontrol/list-runs",
    "/v1/fleet/..;/control/list-runs",
    "/v1/fleet/..\\control\\list-runs",
    "/v1/fleet%2f..%2fcontrol%2flist-runs",
    "/%76%31/control/list-runs",
    "/v1/control/../fleet/pull-messages",
    "/v1/./fleet/pull-messages",
    "/v1//fleet/pull-messages",
    "/v1/fleet/pull-messages/",
    "/v1/fleet/pull-messages?path=/v1/control/list-runs",
    "/v1/fleet/pull-messages#/../../control/list-runs",
    "/v1/fleet/pull-messages%0d%0aPOST%20/v1/control/list-runs",
    f"https://{NAME}{CONTROL}",
    f"https://localhost{CONTROL}",
]


@dataclass
class Federation:
    """What the tests look at; the run has ended.

    Args:
        cluster: the SuperLink and the SuperNodes.
        superlink: of the cluster.
        certificates: the CA's, the server's and the nodes'.
        proxy: before the SuperLink.
        folder: of the run.
        status: which the run ended with.
        trouble: what the proxy had logged when the run had ended; tests that are refused add to its log.
    """

    cluster: Cluster
    superlink: Member
    certificates: Path
    proxy: Proxy
    folder: Path
    status: int
    trouble: list[str]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """SuperLink, nginx, two SuperNodes with their own keys behind it, and a run of one round."""
    folder = tmp_path_factory.mktemp("federation")
    certificates = folder / "certificates"
    make_certificates(certificates, [NAME], nodes=NODES + 1, days=2)
    tls = TLS(certificates / "ca.crt", certificates / "server.crt", certificates / "server.key")
    with Cluster(folder / "cluster", tls=tls, auth=True) as cluster:
        superlink = cluster.superlink(database=folder / "superlink.db")
        with nginx(folder / "nginx", certificates, cluster.port, free_port()) as proxy:
            for node in range(NODES):
                cluster.register(certificates / f"node-{node}.pub")
                through_proxy(cluster, proxy, node, certificates / f"node-{node}")
            settings = prepare(None, [f"{key}={value}" for key, value in SMALL.items()]).flat()
            status = cluster.run(settings | {"run-folder": str(folder / "run"), "clients.num-nodes": NODES})
            yield Federation(cluster, superlink, certificates, proxy, folder / "run", status, proxy.trouble())


def through_proxy(cluster: Cluster, proxy: Proxy, partition: int, key: Path | None) -> Member:
    """A SuperNode that is told of nginx and of nothing else; the last --superlink counts."""
    return cluster.supernode(partition, "--superlink", f"localhost:{proxy.port}", key=key)


def test_a_run_through_the_proxy_has_the_bits_of_one_without_a_network(federation: Federation, tmp_path: Path) -> None:
    assert federation.status == 0, federation.cluster.logs()
    lines = read_rounds(federation.folder)
    assert [[client["partition-id"] for client in line["clients"]] for line in lines] == [[0, 1]]
    assert [line["set_aside"] for line in lines] == [[]]
    settings = prepare(None, [f"{key}={value}" for key, value in SMALL.items()]).flat()
    run_in_process(server_app, client_app, NODES, settings | {"run-folder": str(tmp_path / "run")})
    for name in ("model.safetensors", "hyper-prototypes.safetensors"):
        here, there = load_file(tmp_path / "run" / name), load_file(federation.folder / name)
        torch.testing.assert_close(there, here, rtol=0, atol=0)


def test_nothing_of_the_nodes_with_keys_was_refused_or_failed(federation: Federation) -> None:
    assert [line for line in federation.trouble if "push-object" in line or "pull-object" in line] == []
    sent = sum(line["bytes_up"]["model"] for line in read_rounds(federation.folder))
    assert sent > NODES * SMALL["rounds"] * 5 * 2**20


@pytest.mark.parametrize("key", ["node-2", None], ids=["not registered", "no key"])
def test_a_node_without_a_registered_key_is_refused(federation: Federation, key: str | None) -> None:
    chosen = federation.certificates / key if key else None
    with pytest.raises(AssertionError, match=r"\[code: 200[14]\]"):
        through_proxy(federation.cluster, federation.proxy, 2, chosen)


def test_nothing_but_the_fleet_api_is_let_through(federation: Federation) -> None:
    def refused(target: str) -> bool:
        before = asked(federation)
        status, answer = federation.proxy.ask(f"POST {target} HTTP/1.1")
        return status == 404 and "nginx" in answer and "detail" not in answer and asked(federation) == before

    assert [target for target in REFUSED if not refused(target)] == []


def test_other_methods_headers_and_smuggled_requests_are_no_way_round(federation: Federation) -> None:
    fleet, before = "POST /v1/fleet/pull-messages HTTP/1.1", asked(federation)
    ask = federation.proxy.ask
    assert [ask(f"{method} /v1/fleet/pull-messages HTTP/1.1")[0] for method in ("GET", "PUT", "OPTIONS")] == [404] * 3
    assert ask(f"POST {CONTROL} HTTP/1.0")[0] == 404
    assert ask(f"CONNECT {NAME}:443 HTTP/1.1")[0] in (400, 405)  # nginx 1.22, 1.30
    second = f"0\r\n\r\nPOST {CONTROL} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n\r\n".encode()
    assert ask(fleet, "Transfer-Encoding: chunked\r\n", second)[0] == 400
    assert asked(federation) == before
    # What is let through is the Fleet API's, whatever its headers say; it asks for a signature.
    rewritten = "".join(f"{name}: {CONTROL}\r\n" for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path"))
    for headers in ("", rewritten, "Upgrade: h2c\r\n"):
        status, answer = ask(fleet, headers)
        assert (status, "Invalid SuperNode authentication" in answer) == (401, True)


def test_the_refused_call_is_one_that_the_superlink_answers_on_loopback(federation: Federation) -> None:
    """So the refusals above are nginx's doing."""
    request = urllib.request.Request(
        f"https://127.0.0.1:{federation.cluster.port}{CONTROL}",
        data=b"",
        headers={"Content-Type": "application/protobuf"},
    )
    context = ssl.create_default_context(cafile=str(federation.certificates / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        assert answer.status == 200


def test_every_call_of_the_fleet_api_is_let_through(federation: Federation) -> None:
    calls = [path for method, path in PROTOBUF_REQUEST_TYPES if path.startswith("/v1/fleet/") and method == "POST"]
    assert len(calls) >= 10
    for path in calls:
        assert federation.proxy.ask(f"POST {path} HTTP/1.1")[0] == 401, path


@pytest.mark.parametrize(
    ("at", "roots", "sentence"),
    [
        ("the SuperLink", "", "the SuperLink does not answer: unable to get local issuer certificate; name the CA's"),
        (
            "nginx",
            "ca.crt",
            " is the nodes' door, a proxy that shows them the Fleet API alone; submit on the SuperLink's",
        ),
    ],
)
def test_a_run_that_is_submitted_the_wrong_way_says_which(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str], at: str, roots: str, sentence: str
) -> None:
    address = f"localhost:{federation.cluster.port if at == 'the SuperLink' else federation.proxy.port}"
    trusted = ["--root-certificates", str(federation.certificates / roots)] if roots else []
    assert main(["run", "--set", f"run-folder={tmp_path}", "--superlink", address, *trusted]) == 2
    assert sentence in capsys.readouterr().err


def test_nginx_trusts_no_other_server_on_the_superlinks_port(federation: Federation, tmp_path: Path) -> None:
    make_certificates(tmp_path / "others", [NAME], nodes=1, days=2)
    with nginx(tmp_path / "nginx", tmp_path / "others", federation.cluster.port, free_port()) as proxy:
        assert proxy.ask("POST /v1/fleet/pull-messages HTTP/1.1")[0] == 502
    assert "certificate verify error" in (tmp_path / "nginx" / "error.log").read_text()


def asked(federation: Federation) -> int:
    """How many calls outside the Fleet API the SuperLink has answered; its own processes ask the Runtime API."""
    log = federation.superlink.log()
    return sum(log.count(f" {path}") for path in ("/v1/control", "/v1/fleet/..", "/health", "/openapi", "//"))

"""The cluster of docker/, as its README brings it up: FedHPro on it, a SuperNode killed, another cut off, TLS.

`make cluster` runs these, apart from the other tests: they take minutes and both cores. They skip where no Docker
engine can be had.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_cluster import CONNECTION, SUPERNODES, ComposeCluster
from docker_engine import ROOT, NoEngine, docker_engine
from member import until

pytestmark = pytest.mark.cluster
DATA = Path(os.environ.get("FEDHPRO_DATA_DIR") or ROOT.parent / "shared" / "data")
EVERYONE = {0, 1, 2}
THREE_CLIENTS = "partition.num-partitions=3 clients.num-nodes=3"  # of docker/README.md
KILLED, CUT = 1, 2  # partitions
REFUSED = "[code: 2004]"  # Flower's code for a key that is not registered
until_seen = functools.partial(until, pause=1.0)  # a look asks the engine, by a process
# One or two have faults, and up to three later ones, of 9 s, end before the node that was cut off is back: it waits up
# to 20 s between its tries to reach the SuperLink.
ROUNDS = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeCluster]:
    """Built, not started; removed at the end."""
    try:
        with docker_engine() as engine:
            made = ComposeCluster(engine, tmp_path_factory.mktemp("cluster"), DATA)
            try:
                made.build()
                yield made
            finally:
                made.down()
    except NoEngine as missing:
        pytest.skip(f"THE CLUSTER IS NOT TESTED: {missing}")


def inside(cluster: ComposeCluster, image: str, script: str) -> str:
    """What a shell says in a container of one of the images."""
    done = cluster.engine.docker(
        "run", "--rm", "--network=none", "--entrypoint=sh", f"{cluster.project}-{image}", "-c", script
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pinned() -> dict[str, str]:
    """The versions of constraints.txt, but for PyTorch's: docker_engine.py says why."""
    lines = (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in lines if name not in ("torch", "torchvision")}


@pytest.mark.parametrize("image", ["superlink", "supernode"])
def test_an_image_holds_the_pinned_packages_and_neither_root_nor_compiler_nor_the_app(cluster, image):
    assert inside(cluster, image, "id -u").strip() == "1000"
    assert inside(cluster, image, "command -v gcc cc g++ c++ clang || true") == ""
    assert inside(cluster, image, "ls -A /app").split() == ["results", "state"]
    listed = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    installed = json.loads(inside(cluster, image, f'python -c "{listed}"'))
    versions = {name.lower().replace("_", "-"): version for name, version in installed.items()}
    assert {"flwr", "torch", "scikit-learn", "safetensors", "pydantic"} <= versions.keys()
    assert versions.keys() & {"ray", "pip", "pytest", "mypy", "fedhpro-flwr"} == set()
    expected = pinned()
    assert {name: version for name, version in versions.items() if expected.get(name, version) != version} == {}


@pytest.mark.parametrize(
    "overlays", [(), ("compose.tls.yml",), ("compose.gpu.yml",), ("compose.tls.yml", "compose.gpu.yml")]
)
def test_no_service_has_more_rights_or_open_ports_than_it_needs(cluster, overlays):
    services = cluster.settings(*overlays)["services"]
    assert set(services) == {"superlink", *SUPERNODES}
    ports = {name: [port["host_ip"] for port in service.get("ports", [])] for name, service in services.items()}
    assert ports == {"superlink": ["127.0.0.1"], "supernode-0": [], "supernode-1": [], "supernode-2": []}
    user = "{}:{}".format(*cluster.user)
    for service in services.values():
        assert (service["user"], service["read_only"], service["cap_drop"]) == (user, True, ["ALL"])
        assert service["restart"] == "unless-stopped" and "healthcheck" in service
    for name in SUPERNODES:
        assert services[name]["depends_on"]["superlink"]["condition"] == "service_healthy"
        assert f"partition-id={name[-1]} num-partitions=3" in services[name]["command"]
    insecure = {name for name, service in services.items() if "--insecure" in service["command"]}
    assert insecure == (set() if "compose.tls.yml" in overlays else set(services))


def test_with_tls_a_container_sees_its_own_key_alone(cluster):
    services = cluster.settings("compose.tls.yml")["services"]
    seen = {name: {secret["source"] for secret in service["secrets"]} for name, service in services.items()}
    nodes = {name: {"ca.crt", f"node-{name[-1]}"} for name in SUPERNODES}
    assert seen == {"superlink": {"ca.crt", "server.crt", "server.key"}, **nodes}


def test_with_gpus_every_container_has_them_and_takes_cuda_builds(cluster):
    for service in cluster.settings("compose.gpu.yml")["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"], device["count"]) == ("nvidia", ["gpu"], -1)
        assert service["build"]["args"] == {"TORCH_INDEX": ""}
        assert service["image"].endswith(":cuda")


def test_digits_run_as_the_readme_says_and_the_results_are_on_this_machine(cluster):
    cluster.up()
    said = cluster.flwr(
        "run", str(ROOT), CONNECTION, "--stream", "--run-config", f"rounds=3 {THREE_CLIENTS}", seconds=900
    )
    folder = cluster.run_folder("digits")
    assert f"results: /app/results/digits/{folder.name}" in said
    assert cluster.played("digits") == [EVERYONE] * 3
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy"]["last"] > 0.5  # of ten classes, after three rounds
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()} == {cluster.user}


def test_mnist_goes_on_when_a_supernode_is_killed_and_another_cut_off_and_takes_both_up_again(cluster):
    if not (DATA / "MNIST").exists():
        pytest.skip(
            f"MNIST IS NOT TESTED ON THE CLUSTER: there is none in {DATA}; FEDHPRO_DATA_DIR names another folder"
        )
    killed, cut = f"supernode-{KILLED}", f"supernode-{CUT}"
    conf = tomllib.loads((ROOT / "conf" / "mnist-small.toml").read_text())
    conf |= {"rounds": ROUNDS, "clients": {"num-nodes": 3, "quorum": 0.3}}
    conf["partition"]["num-partitions"] = 3
    cluster.up()
    before = {name: cluster.visits(name) for name in SUPERNODES}
    run_id = cluster.submit(conf)
    until_seen(lambda: cluster.visits(killed) > before[killed], "supernode-1 trains in round 1")
    cluster.compose("kill", killed)
    until_seen(lambda: cluster.visits(cut) > before[cut], "supernode-2 trains in round 1")
    cluster.cut(cut)
    cluster.compose("start", killed)
    until_seen(lambda: any(CUT not in players for players in cluster.played("mnist-small")), "a round ends without it")
    cluster.heal(cut)
    cluster.wait(run_id)

    played = cluster.played("mnist-small")
    said = f"{played}\n{cluster.flwr('log', run_id, CONNECTION, '--show')}"
    assert len(played) == ROUNDS, said
    assert KILLED not in played[0], said
    for client in (KILLED, CUT):
        missed = [client not in players for players in played].index(True)
        assert any(client in players for players in played[missed:]), said
    assert (cluster.run_folder("mnist-small") / "summary.json").exists()


def test_with_tls_registered_supernodes_alone_are_let_in(cluster):
    cluster.compose("down", "--volumes", "--timeout", "3")
    options = ["--server", "superlink", "--nodes", "3"]
    make = [sys.executable, "-m", "fedhpro_flwr.cli", "certs", str(cluster.certificates), *options]
    made = subprocess.run(make, capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0, made.stdout + made.stderr
    cluster.give_to_user(cluster.certificates)
    cluster.overlays = ("compose.tls.yml",)
    cluster.connect(**{"root-certificates": str(cluster.certificates / "ca.crt")})

    cluster.up("superlink")
    cluster.compose("up", "--detach", "supernode-2")
    until_seen(lambda: REFUSED in cluster.log("supernode-2"), "a SuperNode whose key is not registered is refused")
    cluster.compose("rm", "--stop", "--force", "supernode-2")
    for name in ("node-0", "node-1", "node-2"):
        cluster.flwr("supernode", "register", str(cluster.certificates / f"{name}.pub"), CONNECTION)
    cluster.up()
    run_id = cluster.submit(
        {"experiment": "tls", "rounds": 1, "partition": {"num-partitions": 3}, "clients": {"num-nodes": 3}}
    )
    cluster.wait(run_id)
    assert cluster.played("tls") == [EVERYONE]

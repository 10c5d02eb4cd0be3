"""Data and node configs as `fedhpro doctor` finds them."""

import numpy as np
import pytest

from fedhpro_flwr.doctor import samples
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.subject import Subject

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


@pytest.mark.parametrize(
    ("config", "level", "found"),
    [
        ({}, WARNING, "no partition-id"),
        ({"partition-id": 0, "num-partitions": 3}, OK, "partition-id = 0, num-partitions = 3"),
        ({"partition-id": 3, "num-partitions": 3}, PROBLEM, "partition-id = 3, num-partitions = 3"),
        ({"partition-id": -1}, PROBLEM, "partition-id = -1"),
        ({"partition-id": "0"}, PROBLEM, "partition-id = '0'"),
        ({"partition-id": True}, PROBLEM, "partition-id = True"),
        ({"data-path": "/data"}, PROBLEM, "nobody knows which client's data it is"),
    ],
)
def test_the_node_config(config, level, found):
    finding = samples.node_config(Subject("supernode", node_config=config))
    assert finding.level is level
    assert found in finding.found
    assert samples.node_config(Subject(node_config=config)) is None


def write_npz(path, labels):
    images = np.zeros((len(labels), 4, 4), np.uint8)
    np.savez(path, images=images, labels=np.array(labels))
    return path


def test_the_data_of_a_node(tmp_path):
    path = write_npz(tmp_path / "mine.npz", [0, 0, 2, 2, 2, 5])
    finding = samples.data(Subject("supernode", node_config={"partition-id": 0, "data-path": str(path)}))
    assert (finding.level, finding.found) == (OK, f"{path} (npz): 6 samples of 3 classes")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("relative.npz", "data-path = relative.npz"),
        ("/no/such.npz", "data-path = /no/such.npz, and nothing is there that "),
        ("/no/such/folder", "data-path = /no/such/folder, and nothing is there that "),
    ],
)
def test_data_of_a_node_that_cannot_be_read(path, found):
    finding = samples.data(Subject("supernode", node_config={"data-path": path}))
    assert finding.level is PROBLEM
    assert found in finding.found


def test_the_data_of_a_run():
    finding = samples.data(Subject(settings="digits"))
    assert finding.found == "digits: 1438 samples of 10 classes to train on, 359 to test on, shape 1x8x8"
    assert samples.data(Subject()) is None


def test_settings_and_data_that_cannot_be_used(tmp_path):
    assert "there is no file nosuch" in samples.data(Subject(settings="nosuch")).found
    (tmp_path / "mine.toml").write_text('data.name = "npz"\ndata.path = "/no/such.npz"')
    finding = samples.data(Subject(settings=str(tmp_path / "mine.toml")))
    assert finding.level is PROBLEM
    assert "does not exist" in finding.found


def test_the_data_of_every_client_where_each_has_its_own(tmp_path):
    for client, count in enumerate((6, 9)):
        write_npz(tmp_path / f"client-{client}.npz", [0, 1, 2] * (count // 3))
    (tmp_path / "mine.toml").write_text(
        f'[data]\nname = "npz"\npath = "{tmp_path}"\nclasses = "3"\ninput-shape = "1x4x4"\n'
        '[partition]\nscheme = "nodes"\nnum-partitions = 2\n'
    )
    finding = samples.data(Subject(settings=str(tmp_path / "mine.toml")))
    assert finding.level is OK, finding.found
    assert finding.found.startswith(f"{tmp_path}: 2 clients with ")
    (tmp_path / "client-1.npz").unlink()
    finding = samples.data(Subject(settings=str(tmp_path / "mine.toml")))
    assert finding.level is PROBLEM
    assert "client-1" in finding.found


def nodes_conf(folder, scheme="nodes", path=True):
    """Settings of a run of two clients with grey 4x4 pictures of three classes."""
    where = f'path = "{folder}"\n' if path else ""
    declared = 'classes = "3"\ninput-shape = "1x4x4"\n' if scheme == "nodes" else ""
    (folder / "mine.toml").write_text(
        f'[data]\nname = "npz"\n{where}{declared}[partition]\nscheme = "{scheme}"\nnum-partitions = 2\n'
    )
    return str(folder / "mine.toml")


def told(place, partition_id=0):
    return {"partition-id": partition_id, "data-path": str(place)}


def test_the_data_of_a_node_as_a_run_would_take_it(tmp_path):
    fits = write_npz(tmp_path / "fits.npz", [0, 1, 2, 2])
    np.savez(tmp_path / "large.npz", images=np.zeros((3, 5, 4), np.uint8), labels=np.arange(3))
    conf = nodes_conf(tmp_path, path=False)
    assert samples.data(Subject("supernode", node_config=told(fits), settings=conf)).level is OK
    for config, found in (
        (told(tmp_path / "large.npz"), "samples of shape 1x5x4, but data.input-shape = '1x4x4'"),
        (told(fits, 2), f"partition-id = 2, but the clients of {conf} are 0 to 1"),
    ):
        finding = samples.data(Subject("supernode", node_config=config, settings=conf))
        assert finding.level is PROBLEM and found in finding.found
    conf = nodes_conf(tmp_path, "dirichlet")
    finding = samples.data(Subject("supernode", node_config=told(fits), settings=conf))
    assert finding.level is PROBLEM and "partition.scheme = 'dirichlet'" in finding.found


def test_a_server_needs_no_data_where_every_client_has_its_own(tmp_path):
    finding = samples.data(Subject("superlink", settings=nodes_conf(tmp_path, path=False)))
    assert (finding.level, finding.found) == (OK, "every client has its own, none here")
    write_npz(tmp_path / "server.npz", [0, 1, 2])
    finding = samples.data(Subject("superlink", settings=nodes_conf(tmp_path)))
    assert (finding.level, finding.found) == (OK, "every client has its own, 3 samples to test on")


def test_a_node_needs_the_data_of_its_own_client_alone(tmp_path):
    write_npz(tmp_path / "client-1.npz", [0, 1, 2])
    conf = nodes_conf(tmp_path)
    finding = samples.data(Subject("supernode", node_config={"partition-id": 1}, settings=conf))
    assert (finding.level, finding.found) == (OK, f"{tmp_path}: client 1 with 3 samples to train on")
    assert samples.data(Subject("supernode", node_config={"partition-id": 0}, settings=conf)).level is PROBLEM


def test_a_path_from_home_is_taken_as_the_client_takes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npz(tmp_path / "mine.npz", [0, 1])
    told = {"partition-id": 0, "data-path": "~/mine.npz"}
    assert samples.data(Subject("supernode", node_config=told)).level is OK
    finding = samples.data(Subject("supernode", node_config=told | {"data-path": "~nobody-of-this-name/mine.npz"}))
    assert (finding.level, finding.advice.split(",")[0]) == (PROBLEM, "write data-path as a full path")

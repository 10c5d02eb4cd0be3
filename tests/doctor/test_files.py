"""Certificates, keys, folders and data as `fedhpro doctor` finds them on the disk."""

import shutil
from datetime import timedelta

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fedhpro_flwr.certificates import make_folder
from fedhpro_flwr.doctor import places, samples
from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.key_files import certificate, private_key, root_certificates
from fedhpro_flwr.doctor.pem import Names
from fedhpro_flwr.doctor.subject import Subject

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


def superlink(folder, address=None, **files):
    link = Contact(address) if address else None
    names = {"root_certificates": "ca.crt", "certificate": "server.crt", "key": "server.key"}
    return Subject("superlink", link, **{key: files.get(key, folder / name) for key, name in names.items()})


def node(key):
    return Subject("supernode", key=key)


def test_what_certs_made_is_fine(trial):
    subject = superlink(trial, "fl.example.org:443")
    assert [check(subject).level for check in (root_certificates, certificate, private_key)] == [OK] * 3
    assert "fl.example.org, localhost, 127.0.0.1; 364 days left" in certificate(subject).found
    assert private_key(node(trial / "node-0")).level is OK


def test_without_files_nothing_is_looked_at():
    assert [check(Subject()) for check in (root_certificates, certificate, private_key)] == [None] * 3


@pytest.mark.parametrize(("check", "attribute"), [
    (root_certificates, "root_certificates"), (certificate, "certificate"), (private_key, "key"),
])  # fmt: skip
@pytest.mark.parametrize("content", [None, b"", b"no pem", b"\xff\x00"])
def test_a_file_that_is_missing_or_something_else(tmp_path, check, attribute, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    finding = check(Subject(**{attribute: path}))
    assert finding.level is PROBLEM
    assert str(path) in finding.found


@pytest.mark.parametrize(
    ("until", "level", "found"),
    [
        (timedelta(minutes=-1), PROBLEM, "expired on "),
        (timedelta(days=29), WARNING, "; 28 days left, until "),
        (timedelta(days=31), OK, "; 30 days left"),
    ],
)
def test_the_end_of_a_certificate_is_near(issue, until, level, found):
    subject = superlink(issue(["127.0.0.1"], until))
    for check in (certificate, root_certificates):
        assert check(subject).level is level
        assert found in check(subject).found


def test_a_certificate_of_another_authority(trial, issue):
    finding = certificate(superlink(trial, root_certificates=issue(["a"]) / "ca.crt"))
    assert finding.level is PROBLEM
    assert "was not signed by" in finding.found


def test_a_certificate_for_other_names(trial, issue):
    finding = certificate(superlink(issue(["fl.example.org"])))
    assert finding.found == "it is for fl.example.org, not for 127.0.0.1"
    finding = certificate(superlink(trial, "www.example.org:443"))
    assert (finding.level, finding.advice.split(" (")[0]) == (PROBLEM, "have it issued for www.example.org too")


def test_the_key_of_another_certificate(trial, tmp_path):
    make_folder(tmp_path / "other", ["a"], nodes=1, days=1)
    finding = private_key(superlink(trial, key=tmp_path / "other" / "server.key"))
    assert finding.level is PROBLEM
    assert "is not the key of" in finding.found


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, OK), (0o400, OK), (0o640, WARNING), (0o644, PROBLEM), (0o604, PROBLEM)]
)
def test_who_may_read_the_key(trial, tmp_path, mode, level):
    key = tmp_path / "node"
    shutil.copy(trial / "node-0", key)
    key.chmod(mode)
    finding = private_key(node(key))
    assert finding.level is level
    assert f"mode 0{mode:o}" in finding.found
    assert (f"chmod 600 {key}" in finding.advice) == (level is not OK)


def key_file(path, key, form=PrivateFormat.OpenSSH, encryption=None):
    path.write_bytes(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))
    path.chmod(0o600)
    return path


def test_keys_that_flower_does_not_take_for_a_node(tmp_path):
    curve = ec.generate_private_key(ec.SECP256R1())
    refused = [
        key_file(tmp_path / "ed25519", ed25519.Ed25519PrivateKey.generate()),
        key_file(tmp_path / "pkcs8", curve, PrivateFormat.PKCS8),
    ]
    for path in refused:
        finding = private_key(node(path))
        assert (finding.level, finding.found) == (PROBLEM, f"{path} is no key that Flower takes for a node")
    assert private_key(node(key_file(tmp_path / "openssh", curve))).level is OK


def test_a_key_with_a_passphrase(tmp_path):
    curve = ec.generate_private_key(ec.SECP256R1())
    path = key_file(tmp_path / "locked", curve, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert "wants a passphrase" in private_key(Subject(key=path)).found


@pytest.mark.parametrize(
    ("host", "covered"),
    [("a.b.org", True), ("A.B.ORG", True), ("x.w.org", True), ("w.org", False), ("x.y.w.org", False),
     ("10.0.0.1", True), ("10.0.0.2", False), ("::1", True), ("0:0:0:0:0:0:0:1", True)],
)  # fmt: skip
def test_which_names_a_certificate_covers(host, covered):
    assert Names(("a.b.org", "*.w.org"), ("10.0.0.1", "::1")).cover(host) is covered


def test_folders_that_can_be_written_are_not_made(tmp_path):
    finding = places.writable("place", tmp_path / "a" / "b", "name another")
    assert finding.level is OK
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    finding = places.writable("place", tmp_path / "file" / "results", "name another")
    assert finding.level is PROBLEM
    assert "cannot be written" in finding.found


@pytest.mark.parametrize(("free", "level"), [(10**7, PROBLEM), (10**9, WARNING), (10**10, OK)])
def test_a_disk_that_is_full(tmp_path, monkeypatch, free, level):
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - free, free))
    assert places.writable("place", tmp_path, "name another").level is level


def test_which_folders_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    assert str(tmp_path / "results") in places.results_folder(Subject()).found
    assert places.results_folder(Subject("supernode")) is None
    assert places.state_folder(Subject()) is None
    assert str(tmp_path / "state" / "fedhpro") in places.state_folder(Subject("supernode")).found
    named = Subject("supernode", node_config={"state-path": str(tmp_path / "mine")})
    assert str(tmp_path / "mine") in places.state_folder(named).found
    assert str(tmp_path / "flower") in places.flower_folder(Subject()).found
    (tmp_path / "mine.toml").write_text(f'results-dir = "{tmp_path}/elsewhere"')
    assert "elsewhere" in places.results_folder(Subject(settings=str(tmp_path / "mine.toml"))).found
    monkeypatch.setenv("FLWR_HOME", "relative")
    assert places.flower_folder(Subject()).level is WARNING


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
        ("/no/such.npz", "does not exist"),
        ("/no/such/folder", "does not exist"),
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

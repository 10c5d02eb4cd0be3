"""Certificates and keys as `fedhpro doctor` finds them on the disk."""

import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from fedhpro_flwr.certificates import alternative_names, authority_certificate, make_certificates, server_certificate
from fedhpro_flwr.doctor import key_files
from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.key_files import certificate, private_key, root_certificates
from fedhpro_flwr.doctor.pem import Names, is_signed
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


def test_a_certificate_that_is_not_valid_yet_is_told_from_one_that_is(trial, monkeypatch):
    early = SimpleNamespace(now=lambda zone: datetime.now(zone) - timedelta(days=2))
    monkeypatch.setattr(key_files, "datetime", early)
    for check in (root_certificates, certificate):
        finding = check(superlink(trial))
        assert (finding.level, finding.advice) == (PROBLEM, "set this machine's clock, or wait")
        assert finding.found.startswith("valid from ") and finding.found.endswith(" UTC only")


@pytest.mark.parametrize("order", [(40, 20), (20, 40)])
def test_of_several_root_certificates_the_first_to_end_counts(issue, tmp_path, order):
    roots = [(issue(["a"], timedelta(days=days)) / "ca.crt").read_bytes() for days in order]
    (tmp_path / "both.crt").write_bytes(b"".join(roots))
    finding = root_certificates(Subject(root_certificates=tmp_path / "both.crt"))
    assert finding.level is WARNING and "; 19 days left, until " in finding.found


def test_a_certificate_through_those_that_follow_it_in_its_file():
    end, names = datetime.now(UTC) + timedelta(days=2), alternative_names(["a"])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
    root, stranger = authority_certificate(keys[0], end), authority_certificate(keys[1], end)
    middle = server_certificate(keys[2].public_key(), names, root, keys[0], end)
    server = server_certificate(keys[3].public_key(), names, middle, keys[2], end)
    assert is_signed([server, middle], [root]) and is_signed([server, middle, root], [stranger, root])
    assert is_signed([middle, stranger], [root])  # what follows is not needed
    assert not is_signed([server], [root])
    assert not is_signed([server, middle], [stranger])
    assert not is_signed([server, stranger, middle], [root])  # the second did not issue the first


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
    make_certificates(tmp_path / "other", ["a"], nodes=1, days=1)
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


def test_a_server_certificate_is_no_ca(trial):
    finding = root_certificates(superlink(trial, root_certificates=trial / "server.crt"))
    assert (finding.level, finding.advice) == (WARNING, "name the CA's own certificate, such as ca.crt")
    assert finding.found.endswith("is no CA")


def test_a_certificate_that_signed_itself_ends_a_chain_though_it_is_no_ca(tmp_path):
    key, names = ec.generate_private_key(ec.SECP256R1()), alternative_names(["a"])
    end = datetime.now(UTC) + timedelta(days=60)
    other = server_certificate(key.public_key(), names, authority_certificate(key, end), key, end)
    own = server_certificate(key.public_key(), names, other, key, end)  # all servers' have one subject
    (tmp_path / "own.crt").write_bytes(own.public_bytes(Encoding.PEM))
    assert root_certificates(Subject(root_certificates=tmp_path / "own.crt")).level is OK

"""`fedhpro certs`: what it makes is accepted by TLS and by Flower's own checks, and nothing of it is overwritten."""

import os
import shlex
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store
from flwr.cli.supernode.register import try_load_public_key

from fedhpro_flwr.certificates import add_nodes, alternative_names, make_certificates
from fedhpro_flwr.cli import main
from fedhpro_flwr.settings.flat_keys import ConfigError

EVERYTHING = {"ca.crt", "ca.key", "server.crt", "server.key", "node-0", "node-0.pub", "node-1", "node-1.pub"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for a server of two names with two nodes."""
    made = tmp_path_factory.mktemp("certificates") / "trial"
    make_certificates(made, ["fl.example.org", "10.1.2.3"], nodes=2, days=30)
    return made


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_files_and_who_may_read_them(folder):
    assert {path.name for path in folder.iterdir()} == EVERYTHING
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        public = path.suffix in (".crt", ".pub")
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if public else 0o600), path.name


def test_private_keys_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        make_certificates(tmp_path / "open", ["a"], nodes=1, days=1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open" / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["fl.example.org", "10.1.2.3", "localhost", "127.0.0.1"])
def test_the_chain_verifies_for_every_name(folder, name):
    (subject,) = alternative_names([name])[:1]
    verifier = PolicyBuilder().store(Store([certificate(folder / "ca.crt")])).build_server_verifier(subject)
    chain = verifier.verify(certificate(folder / "server.crt"), [])
    assert [link.subject.rfc4514_string() for link in chain] == ["CN=fedhpro SuperLink", "CN=fedhpro trial CA"]


def test_the_times(folder):
    for name, days in (("ca.crt", 3650), ("server.crt", 30)):
        begins, ends = certificate(folder / name).not_valid_before_utc, certificate(folder / name).not_valid_after_utc
        assert begins < datetime.now(UTC) - timedelta(minutes=59)
        assert timedelta(days=days, hours=-1) < ends - datetime.now(UTC) <= timedelta(days=days)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="NO openssl: the guide's renewal was not tried")
def test_the_guides_commands_renew_the_certificate(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "made")
    guide = (Path(__file__).resolve().parents[1] / "docs" / "deployment.md").read_text()
    lines = [line.removeprefix("sudo ").replace("/etc/fedhpro/", "") for line in guide.splitlines()]
    commands = [line for line in lines if line.startswith("openssl x509")]
    assert len(commands) == 2
    for command in commands:
        subprocess.run(shlex.split(command), cwd=tmp_path / "made", check=True, capture_output=True)
    old, new = certificate(tmp_path / "made" / "server.crt"), certificate(tmp_path / "made" / "renewed.crt")
    assert new.not_valid_after_utc > old.not_valid_after_utc and new.public_key() == old.public_key()
    verifier = (
        PolicyBuilder()
        .store(Store([certificate(folder / "ca.crt")]))
        .build_server_verifier(x509.DNSName("fl.example.org"))
    )
    assert verifier.verify(new, [])


def test_the_authority_signs_servers_and_no_further_authority(folder):
    authority, server = certificate(folder / "ca.crt"), certificate(folder / "server.crt")
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert (limits.value.ca, limits.value.path_length) == (True, 0)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_flower_takes_the_node_keys_and_each_is_another(folder):
    publics = [try_load_public_key(folder / f"node-{i}.pub") for i in range(2)]
    assert publics[0] != publics[1]
    private = serialization.load_ssh_private_key((folder / "node-0").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert (folder / "node-0.pub").read_bytes() == public + b" node-0\n"


@pytest.mark.parametrize(("authority", "host", "refused"), [
    ("own", "localhost", None),
    ("own", "10.1.2.3", None),
    ("own", "other.example.org", "Hostname mismatch"),
    ("other", "localhost", "certificate"),
])  # fmt: skip
def test_a_real_handshake(folder, tmp_path, authority, host, refused):
    trusted = folder
    if authority == "other":
        trusted = tmp_path / "other"
        make_certificates(trusted, ["localhost"], nodes=1, days=1)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.create_default_context(cafile=str(trusted / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    ours, theirs = socket.socketpair()

    def answer():
        try:
            with server.wrap_socket(theirs, server_side=True) as secure:
                secure.sendall(b"hello")
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        if refused:
            with pytest.raises(ssl.SSLCertVerificationError, match=refused):
                client.wrap_socket(ours, server_hostname=host)
        else:
            with client.wrap_socket(ours, server_hostname=host) as secure:
                assert secure.recv(5) == b"hello"
    finally:
        ours.close()
        thread.join(5)


def test_nodes_are_added_and_nothing_else_changes(tmp_path):
    make_certificates(tmp_path / "trial", ["a"], nodes=2, days=1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "trial").iterdir()}
    (tmp_path / "trial" / "node-1").unlink()  # handed over: its number is not given to another node
    assert add_nodes(tmp_path / "trial", 2) == [2, 3]
    after = {path.name: path.read_bytes() for path in (tmp_path / "trial").iterdir()}
    assert set(after) - set(before) == {"node-2", "node-2.pub", "node-3", "node-3.pub"}
    assert all(after[name] == content for name, content in before.items() if name in after)


def test_an_empty_folder_may_be_there_and_becomes_private(tmp_path):
    (tmp_path / "trial").mkdir(mode=0o755)
    make_certificates(tmp_path / "trial", ["a"], nodes=1, days=1)
    assert stat.S_IMODE((tmp_path / "trial").stat().st_mode) == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["trial"]


REFUSED = [
    ("fl.example.org:8000", "without a port"),
    ("https://fl.example.org", "without a port or https://"),
    ("10.1.2.300", "give a DNS name or an IP address"),
    ("ein haus", "give a DNS name or an IP address"),
    ("-a.org", "give a DNS name or an IP address"),
    ("a" * 254, "give a DNS name or an IP address"),
]


@pytest.mark.parametrize(("name", "sentence"), REFUSED, ids=[case[0][:20] for case in REFUSED])
def test_a_name_that_is_none_is_refused_and_nothing_is_made(tmp_path, name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_certificates(tmp_path / "trial", ["fine.org", name], nodes=1, days=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["superlink", "sl_1", "*.example.org", "::1", "fl.example.org"])
def test_names_that_are_some(name):
    assert len(alternative_names([name])) == 3


def test_a_name_is_held_once():
    assert len(alternative_names(["localhost", "localhost", "127.0.0.1"])) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--server", "a", "--nodes", "1"], "is not empty and nothing is overwritten"),
        (["--nodes", "1"], "a new folder needs --server NAME and --nodes N"),
        (["--add-nodes", "1"], "holds no ca.crt"),
        (["--add-nodes", "1", "--server", "a"], "leave --server, --nodes and --days out"),
    ],
)
def test_mistakes_end_with_2_and_a_sentence(tmp_path, capsys, arguments, sentence):
    (tmp_path / "kept").write_text("mine")
    assert main(["certs", str(tmp_path), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_command_says_what_to_run_with_the_real_paths(tmp_path, capsys):
    folder = tmp_path / "my trial"
    assert main(["certs", str(folder), "--server", "fl.example.org, 10.1.2.3", "--nodes", "2", "--days", "7"]) == 0
    said = capsys.readouterr().out
    assert "the server fl.example.org, 10.1.2.3, localhost, 127.0.0.1" in said
    assert f"--ssl-ca-certfile '{folder}/ca.crt' --ssl-certfile '{folder}/server.crt'" in said
    assert f"flwr supernode register '{folder}/node-1.pub' trial" in said
    assert "flower-supernode --superlink fl.example.org:443" in said  # the proxy, never the SuperLink's own port
    assert "a real PKI keeps the CA's key off line" in said
    assert main(["certs", str(folder), "--add-nodes", "5"]) == 0
    assert "$(seq 2 6)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("localhost", "localhost:8000"),
        ("::1", "127.0.0.1:8000"),  # where the SuperLink of the same text listens
        ("127.0.0.5", "127.0.0.1:8000"),
        ("fd00::1", "[fd00::1]:443"),
        ("10.1.2.3", "10.1.2.3:443"),
    ],
)
def test_on_this_machine_nodes_need_no_proxy(tmp_path, capsys, server, address):
    assert main(["certs", str(tmp_path / "trial"), "--server", server, "--nodes", "1"]) == 0
    assert f"flower-supernode --superlink {address} " in capsys.readouterr().out


def test_nodes_connect_to_the_first_name_that_is_no_wildcard(tmp_path, capsys):
    assert main(["certs", str(tmp_path / "trial"), "--server", "*.example.org,fl.example.org", "--nodes", "1"]) == 0
    assert "flower-supernode --superlink fl.example.org:443 " in capsys.readouterr().out
    assert main(["certs", str(tmp_path / "other"), "--server", "*.example.org", "--nodes", "1"]) == 2
    assert "nodes cannot connect to a wildcard" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()

"""Which SuperLink is meant, and a sentence where none is."""

import tomllib
from argparse import Namespace

import pytest

from fedhpro_flwr.commands.on_superlink import log_of, refuse, superlink
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch.connections import direct, flower_home, named

FILE = """
[superlink]
default = "remote"
[superlink.local]
address = ":local:"
[superlink.remote]
address = "10.0.0.1:8000"
insecure = true
[superlink.office]
address = "superlink.example.org:443"
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "config.toml").write_text(FILE)
    return tmp_path


def test_a_connection_by_its_name(home):
    assert named("office", home) == "office"
    (home / "config.toml").write_text(f"{FILE}[superlink.odd]\naddress = 8000\n", encoding="utf-8-sig")  # as of Notepad
    assert named("odd", home) == "odd"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("remoot", r"--superlink remoot: no connection of that name in .*config.toml, only remote, office; add "),
        ("default", "no connection of that name"),
        ("local", "--superlink local stands for a simulation on this machine; leave --superlink out for it"),
    ],
)
def test_no_such_connection(name, sentence, home):
    with pytest.raises(ConfigError, match=sentence):
        named(name, home)


def test_a_machine_without_flowers_file_gets_none_written(tmp_path):
    with pytest.raises(ConfigError, match=r"there is none yet; add \[superlink.remote\]"):
        named("remote", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"[superlink", b"\xff"])
def test_a_broken_file_is_named(content, tmp_path):
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config.toml is not TOML: "):
        named("remote", tmp_path)


def test_an_address_becomes_a_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.crt").write_text("")
    name = direct("127.0.0.1:8000", tmp_path, root_certificates="~/ca.crt")
    written = tomllib.loads((tmp_path / "config.toml").read_text())["superlink"]
    assert written == {
        "default": name,
        name: {"address": "127.0.0.1:8000", "insecure": False, "root-certificates": str(tmp_path / "ca.crt")},
    }
    monkeypatch.chdir(tmp_path)  # not that of Flower's commands
    direct("127.0.0.1:8000", tmp_path, root_certificates="ca.crt")
    assert tomllib.loads((tmp_path / "config.toml").read_text())["superlink"] == written
    direct("[::1]:8000", tmp_path, insecure=True)
    assert tomllib.loads((tmp_path / "config.toml").read_text())["superlink"][name]["insecure"] is True


@pytest.mark.parametrize("address", [":8000", "host:", "host:80x", "host:0", "host:70000", "https://host:8000"])
def test_what_is_no_address(address, tmp_path):
    with pytest.raises(ConfigError, match="write it as HOST:PORT"):
        direct(address, tmp_path)


def test_a_certificate_that_is_not_there_or_not_used(tmp_path):
    with pytest.raises(ConfigError, match=r"--root-certificates no\.crt: there is no such file"):
        direct("host:1", tmp_path, root_certificates="no.crt")
    with pytest.raises(ConfigError, match="leave one out"):
        direct("host:1", tmp_path, insecure=True, root_certificates="no.crt")


def options(**changes):
    given = {"superlink": None, "engine": "ray", "gpus_per_client": 0.0, "insecure": False, "root_certificates": ""}
    return Namespace(**{**given, "restarts": None, "detach": False, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"insecure": True}, "--insecure is for a run on a deployed SuperLink"),
        ({"detach": True}, "--detach is for a run on a deployed SuperLink"),
        ({"restarts": 3}, "--restarts is for a run on a deployed SuperLink; name it with --superlink"),
        ({"restarts": 0}, "--restarts is for a run on a deployed SuperLink; name it with --superlink"),
        ({"root_certificates": "ca.crt"}, "go with --superlink HOST:PORT"),
        ({"superlink": "remote", "insecure": True}, "a named connection has its own"),
        ({"superlink": "remote", "engine": "in-process"}, "--engine and --gpus-per-client are for simulations"),
        ({"superlink": "remote", "gpus_per_client": 0.5}, "--engine and --gpus-per-client are for simulations"),
        ({"superlink": "remote", "restarts": -1}, "--restarts -1: it must be 0 or more"),
    ],
)
def test_options_that_do_not_go_together(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        refuse(options(**changes))


def test_flowers_folder_is_that_of_its_variable_or_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FLWR_HOME", raising=False)
    assert flower_home() == tmp_path / ".flwr"
    monkeypatch.chdir(tmp_path)
    for written in ("~/mine", "mine"):
        monkeypatch.setenv("FLWR_HOME", written)
        assert flower_home() == tmp_path / "mine"


def test_options_that_do(home, monkeypatch):
    refuse(options())
    refuse(options(superlink="host:1", insecure=True, detach=True, restarts=0))
    monkeypatch.setenv("FLWR_HOME", str(home))
    assert flower_home() == home
    with superlink(options(superlink="remote")) as flower:
        assert (flower.home, flower.connection) == (home, "remote")
        assert list(flower.scratch.iterdir()) == []
    assert not flower.scratch.exists()
    with superlink(options(superlink="host:1", insecure=True)) as flower:
        assert flower.home != home
        assert 'address = "host:1"' in (flower.home / "config.toml").read_text()


def test_the_log_goes_to_the_runs_folder_or_here_where_that_is_another_machines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert log_of(tmp_path / "results" / "a") == tmp_path / "results" / "a" / "flower.log"
    (tmp_path / "file").write_text("")
    assert log_of(tmp_path / "file" / "results" / "b") == tmp_path / "b-flower.log"

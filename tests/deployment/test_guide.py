"""docs/deployment.md and its files name what is there: options of installed commands, paths of the Fleet API, units."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
from flwr.common.config import parse_config_args
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "deployment.md"
FILES = ROOT / "docs" / "deployment"
UNITS = sorted(FILES.glob("*.service"))
COMMANDS = ("flower-superlink", "flower-supernode", "flwr", "fedhpro")
WITH_SUBCOMMANDS = ("flwr", "flwr supernode", "fedhpro")
INSTALLED = "/opt/fedhpro/venv/bin/"
OPTION = re.compile(r"--[a-z][a-z-]*")


def joined(text: str) -> list[str]:
    """The lines of a shell script, continued ones in one piece, without what is fed to a command."""
    text = re.sub(r"<<'END'\n.*?\nEND\n", "\n", text, flags=re.S)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def commands(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Those of Flower's and ours among the lines, as (command with its subcommands, arguments)."""
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["sudo"]:
            words = words[1:]
            while words[0].startswith("-"):
                words = words[2 if words[0] == "-u" else 1 :]
        name, rest = words[0].removeprefix(INSTALLED) if words else "", words[1:]
        if name in COMMANDS:
            while name in WITH_SUBCOMMANDS:
                name, rest = f"{name} {rest[0]}", rest[1:]
            found.append((name, rest))
    return found


def of_guide() -> list[tuple[str, list[str]]]:
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.S)
    return [command for block in blocks for command in commands(joined(block))]


def of_units() -> list[tuple[str, list[str]]]:
    lines = [line for unit in UNITS for line in joined(unit.read_text(encoding="utf-8"))]
    return commands([line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")])


@cache
def options_of(command: str) -> frozenset[str]:
    """What a command's --help names."""
    name, *subcommands = command.split()
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    main, said = script.load(), io.StringIO()
    with (
        patch("sys.argv", [name, *subcommands, "--help"]),
        contextlib.redirect_stdout(said),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert not end.value.code, command
    return frozenset(OPTION.findall(said.getvalue()))


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A help text that cuts no option short, and no calls home."""
    for name, value in {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "FLWR_TELEMETRY_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)


def test_the_page_and_the_units_show_the_commands_that_they_are_about() -> None:
    shown = {name for name, _ in of_guide()}
    assert shown >= {"flower-superlink", "flower-supernode", "flwr run", "flwr supernode register", "fedhpro run"}
    assert [name for name, _ in of_units()] == ["flower-superlink", "flower-supernode"]


@pytest.mark.parametrize("command", sorted({name for name, _ in of_guide() + of_units()}))
def test_every_option_shown_is_one_of_the_installed_command(command: str) -> None:
    shown = {word.split("=")[0] for name, words in of_guide() + of_units() if name == command for word in words}
    options = {word for word in shown if OPTION.fullmatch(word)}
    assert options <= options_of(command)


def test_a_wrong_option_would_be_found() -> None:
    assert "--fleet-port" not in options_of("flower-superlink") and "--host" in options_of("flower-superlink")


def test_the_page_starts_what_the_units_start() -> None:
    """The same options in both, and the same values where the unit has no variable."""
    shown = dict(of_guide())
    for name, words in of_units():
        for here, there in zip(words, shown[name], strict=True):
            assert here == there or here.startswith("${"), (name, here, there)


def test_the_settings_of_a_supernode_are_all_given_and_readable_to_flower() -> None:
    lines = joined((FILES / "supernode-0.env").read_text(encoding="utf-8"))
    given = dict(shlex.split(line)[0].split("=", 1) for line in lines if not line.startswith("#"))
    (unit,) = FILES.glob("fedhpro-supernode@.service")
    assert set(given) == set(re.findall(r"\$\{([A-Z_]+)\}", unit.read_text(encoding="utf-8")))
    assert parse_config_args([given["NODE_CONFIG"]]) == {
        "partition-id": 0,
        "state-path": "/var/lib/fedhpro/state",
    }


def test_nginx_lets_through_the_fleet_api_of_the_installed_flower_and_nothing_else_of_it() -> None:
    (pattern,) = re.findall(r'"~(\^POST .*?)"\s+1;', (FILES / "nginx.conf").read_text(encoding="utf-8"))
    let_through = {path for method, path in PROTOBUF_REQUEST_TYPES if re.search(pattern, f"{method} {path}")}
    assert let_through == {path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith("/v1/fleet/")}
    assert {path.split("/")[2] for _, path in PROTOBUF_REQUEST_TYPES} == {"control", "fleet", "runtime"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on the path")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    here = tmp_path / unit.name
    here.write_text(unit.read_text(encoding="utf-8").replace(INSTALLED, f"{Path(sys.executable).parent}/"))
    done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_as_a_user_that_may_write_its_state_only(unit: Path) -> None:
    lines = unit.read_text(encoding="utf-8").splitlines()
    assert {"User=fedhpro", "ProtectSystem=strict", "NoNewPrivileges=yes", "StateDirectory=fedhpro"} <= set(lines)
    assert "--host 127.0.0.1" in " ".join(lines) and "--insecure" not in " ".join(lines)

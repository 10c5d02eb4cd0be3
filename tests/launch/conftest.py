"""`fedhpro run --superlink`, with Flower's answers written down."""

from __future__ import annotations

import json
import os
import sys
import tomllib

import pytest
from fake_flwr import FAKE

from fedhpro_flwr.cli import main
from fedhpro_flwr.launch import deployment, flower, following


@pytest.fixture
def play(tmp_path, monkeypatch, capsys):
    """Exit status of `fedhpro run --superlink`, what it said, and the settings of each submission."""
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(deployment, "RETRY_SECONDS", 0.01)
    command = tmp_path / "bin" / "flwr"
    command.parent.mkdir()
    command.write_text(FAKE.format(python=sys.executable, pid=os.getpid()))
    command.chmod(0o755)
    monkeypatch.setattr(flower, "tool", lambda name: str(command))

    def played(answers, *arguments, **changes):
        (command.parent / "answers.json").write_text(json.dumps(answers))
        settings = {} if "--resume" in arguments else {"run-folder": tmp_path / "run"}
        flags = [word for key, value in (settings | changes).items() for word in ("--set", f"{key}={value}")]
        status = main(["run", *flags, "--superlink", "127.0.0.1:9", "--insecure", *map(str, arguments)])
        asked = [json.loads(line) for line in (command.parent / "asked.jsonl").read_text().splitlines()]
        assert [kind for kind, _ in asked] == [kind for kind, _ in answers]
        told = capsys.readouterr()
        return status, told.out + told.err, [tomllib.loads(config) for kind, config in asked if kind == "run"]

    return played

"""`fedhpro doctor` as it is called: the table, the exit status, and checks that hang or break."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.commands import doctor as command
from fedhpro_flwr.doctor import checks
from fedhpro_flwr.doctor.deadline import within
from fedhpro_flwr.doctor.finding import Finding, Level, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject


@pytest.fixture
def find(monkeypatch):
    """Make the checks find these; returns the subjects they were asked about."""
    asked = []

    def pretend(*findings):
        def examine(subject):
            asked.append(subject)
            yield from findings

        monkeypatch.setattr(command, "examine", examine)
        return asked

    return pretend


@pytest.mark.parametrize(
    ("findings", "status", "summary"),
    [
        ([ok("a", "fine")], 0, "simulation: 0 problems, 0 warnings, 1 ok"),
        ([ok("a", "fine"), warning("b", "slow", "hurry")], 0, "simulation: 0 problems, 1 warning, 1 ok"),
        ([problem("c", "[bold]x", "mend it"), ok("a", "fine")], 1, "simulation: 1 problem, 0 warnings, 1 ok"),
    ],
)
def test_the_table_and_the_exit_status(find, capsys, findings, status, summary):
    find(*findings)
    assert main(["doctor"]) == status
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == summary
    for finding in findings:
        assert finding.found in said
        assert not finding.advice or f"-> {finding.advice}" in said


def test_json(find, capsys):
    asked = find(problem("c", "found", "mend it"))
    arguments = ["--role", "supernode", "--superlink", "fl.example.org:443", "--json"]
    arguments += ["--port", "9095", "--node-config", "partition-id=1 data-path='/data/my set'"]
    assert main(["doctor", *arguments]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "role": "supernode",
        "findings": [{"check": "c", "level": "problem", "found": "found", "advice": "mend it"}],
    }
    (subject,) = asked
    assert subject.port == 9095
    assert subject.node_config == {"partition-id": 1, "data-path": "/data/my set"}
    assert (subject.superlink.host, subject.superlink.port, subject.superlink.insecure) == (
        "fl.example.org",
        443,
        False,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--superlink", "fl.example.org"], "--superlink fl.example.org: write it as HOST:PORT"),
        (["--node-config", "partition-id"], "--node-config partition-id: write it as key=value"),
    ],
)
def test_mistakes_end_with_2_and_a_sentence(find, capsys, arguments, sentence):
    asked = find(ok("a", "fine"))
    assert main(["doctor", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("port", ["0", "65536", "nginx"])
def test_a_port_that_is_none(find, capsys, port):
    asked = find()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--port", port])
    assert (ended.value.code, asked) == (2, [])
    assert f"{port} is no port, a whole number from 1 to 65535" in capsys.readouterr().err


def test_a_check_that_breaks_or_hangs_is_a_problem_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(checks, "LIMIT", 0.1)

    def broken(subject):
        raise KeyError("lost")

    def hanging_check(subject):
        time.sleep(5)

    def nothing(subject):
        return None

    def last(subject):
        return ok("last", subject.role)

    found = list(checks.examine(Subject("superlink"), (broken, hanging_check, nothing, last)))
    assert found == [
        Finding("broken", Level.PROBLEM, "KeyError: 'lost'", "mend what this names and ask again"),
        Finding("hanging check", Level.PROBLEM, "no answer in 0 s", found[1].advice),
        Finding("last", Level.OK, "superlink"),
    ]


def test_a_deadline_gives_the_result_or_what_was_raised():
    assert within(5, lambda: 3) == 3
    with pytest.raises(KeyError):
        within(5, lambda: {}["missing"])
    with pytest.raises(TimeoutError):
        within(0.05, lambda: time.sleep(5))


def test_every_problem_and_warning_of_a_real_look_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = tuple(check for check in checks.CHECKS if check.__name__ not in ("torch_imports", "gpu"))
    found = list(checks.examine(Subject("superlink"), quick))
    assert {"python", "packages", "results folder", "port", "environment", "other app"} <= {f.check for f in found}
    assert all(bool(finding.advice) == (finding.level is not Level.OK) for finding in found)


def test_doctor_and_certs_are_there_where_torch_does_not_import():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from fedhpro_flwr.cli import main\n"
        "sys.exit(main(['doctor', '--json', '--role', 'supernode']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    found = {finding["check"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert (found["torch"], found["python"]) == ("problem", "ok")
    assert "`fedhpro doctor` says which" in done.stderr


def test_the_page_names_every_check():
    table = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text().split("|---|---|---|")[1]
    named = [name.strip() for row in table.splitlines() if row.startswith("|") for name in row.split("|")[1].split(",")]
    renamed = {"python version": "python", "torch imports": "torch", "reached": "superlink", "handshake": "tls"}
    renamed |= {"variables": "environment", "control api": "control API"}
    functions = [check.__name__.replace("_", " ") for check in checks.CHECKS]
    assert [renamed.get(name, name) for name in functions] == named

"""`fedhpro doctor`: what is ready on this machine, what is not, and what to do about it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedhpro_flwr.commands import FAILED, OK, Subparsers
from fedhpro_flwr.doctor.checks import examine
from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Finding, Level
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.settings.flat_keys import ConfigError, Scalar

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
NAME_WIDTH, LEVEL_WIDTH = 19, 10


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro doctor`."""
    command = commands.add_parser(
        "doctor", help="check whether this machine is ready, and say what to do where it is not"
    )
    command.add_argument(
        "--role",
        choices=("simulation", "superlink", "supernode"),
        default="simulation",
        help="what is to run here (default: simulation)",
    )
    command.add_argument(
        "--superlink", metavar="HOST:PORT", help="where the SuperLink, or the proxy before it, answers"
    )
    command.add_argument("--root-certificates", type=_file, metavar="FILE", help="who signed the SuperLink's: ca.crt")
    command.add_argument("--insecure", action="store_true", help="the SuperLink speaks plain HTTP")
    command.add_argument(
        "--certificate", type=_file, metavar="FILE", help="the SuperLink's own certificate: server.crt"
    )
    command.add_argument("--key", type=_file, metavar="FILE", help="its private key, server.key; or a node's, node-0")
    command.add_argument(
        "--port", type=_port, default=0, metavar="PORT", help="which it is to listen on, as told to Flower's command"
    )
    command.add_argument(
        "--node-config", default="", metavar="CONFIG", help="as for flower-supernode: partition-id=0 ..."
    )
    command.add_argument(
        "--data", default="", metavar="CONF", help="also read the data of a TOML file or of one in conf/"
    )
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.set_defaults(command=doctor)


def doctor(options: argparse.Namespace, console: Console) -> int:
    """Run the checks and show each finding as it comes; the exit status tells whether there is a problem.

    Raises:
        ConfigError: --superlink, --node-config or --data cannot be read.
    """
    if options.data:
        with suppress(ImportError):  # torch cannot be imported, which is a finding
            from fedhpro_flwr.settings.from_command_line import read_settings

            read_settings(options.data, [])
    link = options.superlink and Contact(options.superlink, options.root_certificates, insecure=options.insecure)
    subject = Subject(
        role=options.role,
        superlink=link or None,
        root_certificates=options.root_certificates,
        certificate=options.certificate,
        key=options.key,
        node_config=_node_config(options.node_config),
        port=options.port,
        settings=options.data,
    )
    if options.json:
        findings = list(examine(subject))
        print(json.dumps({"role": subject.role, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        findings = _show(subject, console)
    return FAILED if any(finding.level is Level.PROBLEM for finding in findings) else OK


def _show(subject: Subject, console: Console) -> list[Finding]:
    findings = []
    for finding in examine(subject):
        findings.append(finding)
        # Separate lines, not a table: each can be shown when its check has ended, and none is folded in a log.
        line = Text(f"{finding.check:<{NAME_WIDTH}}")
        line.append(f"{finding.level:<{LEVEL_WIDTH}}", style=STYLES[finding.level])
        line.append(finding.found)
        if finding.advice:
            line.append(f"\n{'':{NAME_WIDTH + LEVEL_WIDTH}}-> {finding.advice}", style="bold")
        console.print(line, soft_wrap=True)
    counts = Counter(finding.level for finding in findings)
    bad = [f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in (Level.PROBLEM, Level.WARNING)]
    console.print(f"{subject.role}: {', '.join(bad)}, {counts[Level.OK]} ok", markup=False)
    return findings


def _node_config(text: str) -> Mapping[str, Scalar]:
    """The node config as Flower's own parser reads it.

    Raises:
        ConfigError: the parser finds nothing in it.
    """
    if not text:
        return {}
    from flwr.common.config import parse_config_args  # takes a second

    try:
        config = parse_config_args([text])
    except Exception:  # its parser raises exceptions of several libraries
        config = {}
    if not config:
        raise ConfigError(
            f"--node-config {text}: write it as key=value, texts in quotes: \"partition-id=0 data-path='/data'\""
        )
    return config


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is no port, a whole number from 1 to 65535")
    return int(text)


def _file(text: str) -> Path:
    return expanded(text).resolve()

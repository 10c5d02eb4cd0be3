"""What is examined: the role a machine is to play, and the addresses, files and settings it is to play it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.settings.flat_keys import Scalar

Role = Literal["simulation", "superlink", "supernode"]


@dataclass(frozen=True)
class Subject:
    """A machine and its role.

    Args:
        role: what is to run here.
        superlink: where the SuperLink answers, or is to.
        root_certificates: certificates of those who sign the SuperLink's; PEM.
        certificate: the SuperLink's own; PEM.
        key: its private key (PEM), or a node's (OpenSSH).
        node_config: what the SuperNode is told with `--node-config`.
        port: which a SuperLink or SuperNode is to listen on; 0 means Flower's default, or that of `superlink`.
        settings: a run's settings, a TOML file or the name of an experiment; empty if no data is to be looked at.
    """

    role: Role = "simulation"
    superlink: Contact | None = None
    root_certificates: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    node_config: Mapping[str, Scalar] = field(default_factory=dict)
    port: int = 0
    settings: str = ""

"""What is examined: the role that a machine is to have, and the addresses, files and settings for it."""

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
        superlink: where the SuperLink answers, or is going to.
        root_certificates: file with the CA certificates that may have signed the SuperLink's; PEM.
        certificate: file with the SuperLink's own certificate; PEM.
        key: file with the SuperLink's private key (PEM), or with a node's (OpenSSH).
        node_config: what the SuperNode is told with `--node-config`.
        port: that a SuperLink or SuperNode is to listen on; 0 means Flower's default, or that of `superlink`.
        settings: a run's settings, a TOML file or the name of an experiment; empty if no data is to be checked.
    """

    role: Role = "simulation"
    superlink: Contact | None = None
    root_certificates: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    node_config: Mapping[str, Scalar] = field(default_factory=dict)
    port: int = 0
    settings: str = ""

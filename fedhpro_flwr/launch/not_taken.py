"""Why a SuperLink did not take a run. Flower has one sentence for many causes, so these are looked for here."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.doctor import superlink, tls
from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.launch.connections import CONFIG_FILE
from fedhpro_flwr.launch.flower import Flower, LaunchError, UnreachableError

SHUT = "404 Not Found"  # what nginx.conf answers to all but the Fleet API
CONTROL = "/v1/control/"


def explained(error: LaunchError, flower: Flower) -> str:
    """The error in words, and its cause if it can be found.

    Args:
        error: of a run that was submitted.
        flower: that spoke with the SuperLink.
    """
    said, connection = str(error), written(flower)
    address = str(connection.get("address", ""))
    if SHUT in said and CONTROL in said:
        return (
            f"{address} is the nodes' door, a proxy that shows them the Fleet API alone; submit on the SuperLink's own "
            "machine, at 127.0.0.1, or through ssh -L"
        )
    if not isinstance(error, UnreachableError):
        return said
    roots = Path(str(connection["root-certificates"])) if connection.get("root-certificates") else None
    try:
        link = Contact(address, roots, insecure=connection.get("insecure") is True)
    except ConfigError:  # Flower takes some addresses that `Contact` refuses
        return said
    subject = Subject(superlink=link, root_certificates=roots)
    for check in (superlink.reached, tls.handshake):
        finding = check(subject)
        if finding and finding.level is Level.PROBLEM:
            return f"{said}: {finding.found}; {finding.advice}"
    return said


def written(flower: Flower) -> dict[str, Any]:
    """A connection as it stands in Flower's config.toml."""
    content = tomllib.loads((flower.home / CONFIG_FILE).read_text(encoding="utf-8"))
    return dict(content["superlink"][flower.connection])

"""Is the port free that this machine is to listen on?"""

from __future__ import annotations

import errno
import socket

from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject

SUPERLINK_PORT, SUPERNODE_PORT = 8000, 9094  # Flower's defaults


def port(subject: Subject) -> Finding | None:
    """The port of a SuperLink or a SuperNode; a simulation takes a free one by itself."""
    if subject.role == "simulation":
        return None
    link = subject.superlink
    default = SUPERNODE_PORT if subject.role == "supernode" else link.port if link else SUPERLINK_PORT
    number = subject.port or default
    if is_free(number):
        return ok("port", f"{number} is free")
    if subject.role == "supernode":
        advice = "give each SuperNode on a machine a --port of its own, unless it is that SuperNode's already"
        return warning("port", f"{number} is in use", advice)
    if runs_superlink(number) or (link and link.answers):
        return ok("port", f"{number} is in use, by a SuperLink")
    return problem("port", f"{number} is in use, by no SuperLink", "end what listens there or take another --port")


def is_free(number: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or closed connections of the last server count
        try:
            probe.bind(("", number))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def runs_superlink(number: int) -> bool:
    """Whether a SuperLink answers on a port of this machine, with TLS or without."""
    return any(Contact(f"127.0.0.1:{number}", insecure=insecure).answers for insecure in (False, True))

"""The SuperLink: does it answer, is it of this Flower release, and which of its APIs can be reached?"""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException
from importlib.metadata import version

from fedhpro_flwr.doctor.contact import TIMEOUT, Answer, Contact
from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.doctor.versions import required

CONTROL_CALL = "/v1/control/list-runs"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BEHIND_DEAD = (502, 503, 504)  # a proxy's answer if the server behind it gives none


def reached(subject: Subject) -> Finding | None:
    """Something answers at the address, and it is a SuperLink."""
    link = subject.superlink
    if link is None:
        return None
    answer = link.hello
    if not isinstance(answer, Answer):
        if subject.role == "superlink" and isinstance(answer, ConnectionRefusedError):
            return ok("superlink", f"none runs at {link.address} yet")
        said = (isinstance(answer, OSError) and answer.strerror) or str(answer) or type(answer).__name__
        return problem("superlink", f"{link.address}: {said}", no_answer(link, answer))
    if link.answers:
        proxied = "" if answer.status == 200 else ", behind a proxy that shows the Fleet API alone"
        return ok("superlink", f"answers at {link.address}{proxied}")
    if answer.status in BEHIND_DEAD:
        found = f"the proxy at {link.address} answers, the SuperLink behind it does not (HTTP {answer.status})"
        return problem("superlink", found, "start the SuperLink, or correct the address in the proxy's settings")
    if answer.status == 400 and link.insecure:
        return problem("superlink", f"{link.address} wants TLS", "leave --insecure out")
    return problem(
        "superlink",
        f"what answers at {link.address} is no SuperLink of flwr 1.40 or later (HTTP {answer.status})",
        "correct --superlink, or let the proxy through to /v1/fleet/",
    )


def no_answer(link: Contact, error: OSError | HTTPException) -> str:
    """What to do if no HTTP answer came."""
    if isinstance(error, socket.gaierror):
        return f"correct the name {link.host}, or enter it in DNS or /etc/hosts"
    if isinstance(error, TimeoutError):
        return f"nothing came in {TIMEOUT:.0f} s: open port {link.port} in the server's firewall for this machine"
    if isinstance(error, ConnectionRefusedError):
        return f"start the SuperLink or its proxy, and let it listen on port {link.port} of an address nodes reach"
    if isinstance(error, ssl.SSLError):
        return "it speaks no TLS: start it with --ssl-certfile, or for a trial on this machine add --insecure here"
    if link.insecure and isinstance(error, HTTPException | ConnectionError):
        return "it speaks no plain HTTP: leave --insecure out"
    return "see that the server runs and that this machine reaches it"


def flower_version(subject: Subject) -> Finding | None:
    """Which release of Flower the SuperLink is, as its OpenAPI description alone tells: one this project runs with?

    Flower lets in nodes of other releases, without a word. Those that this project allows were tried beside each other.
    """
    link = subject.superlink
    if link is None or not link.answers:
        return None
    mine = version("flwr")
    described = link.ask("GET", "/openapi.json")
    theirs = str(described.json().get("info", {}).get("version", ""))
    if described.status != 200 or not theirs:
        return ok("flower version", f"{mine} here; the SuperLink does not show its own through the proxy")
    found = f"{mine} here, {theirs} at the SuperLink"
    if theirs.split(".")[:2] == mine.split(".")[:2]:
        return ok("flower version", found)
    if any(flower.name == "flwr" and flower.specifier.contains(theirs) for flower in required(subject)):
        return warning("flower version", found, "the two work together; when you can, install the newer one on both")
    wanted = ".".join(theirs.split(".")[:2])
    return problem("flower version", found, f"install the same release on both: `pip install 'flwr=={wanted}.*'`")


def control_api(subject: Subject) -> Finding | None:
    """Can the Control API be reached? This Flower release authenticates nobody there: they run code on every node."""
    link = subject.superlink
    if link is None or not link.answers:
        return None
    status = link.ask("GET", CONTROL_CALL).status
    if status != 405:  # the SuperLink's own answer to GET; a proxy that hides the API answers otherwise
        return ok("control API", f"cannot be reached through {link.address}")
    if link.host in LOOPBACK:
        return ok("control API", f"open at {link.address}, which this machine alone reaches")
    return warning(
        "control API",
        f"open at {link.address}: whoever reaches it can run code on every node",
        "let it listen on 127.0.0.1, behind a proxy that shows /v1/fleet/ alone: docs/deployment/nginx.conf",
    )

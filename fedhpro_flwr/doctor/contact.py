"""A SuperLink, or the proxy before it, as seen from outside: a few harmless HTTP requests with a time limit."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from fedhpro_flwr.address import host_and_port
from fedhpro_flwr.doctor.deadline import within

TIMEOUT = 4.0  # seconds to connect, and to answer
LARGEST = 2_000_000  # bytes that are read of an answer; the SuperLink's description of itself has some 300,000


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Args:
        status: of HTTP.
        headers: in lower case.
        body: its first LARGEST bytes.
        at: this machine's clock half way between question and answer, seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is none."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


class Contact:
    """Where a SuperLink answers.

    Args:
        address: `host:port`, as Flower takes it.
        root_certificates: who may have signed its certificate; None for those the system trusts.
        insecure: it speaks plain HTTP.

    Raises:
        ConfigError: it is no address.
    """

    def __init__(self, address: str, root_certificates: Path | None = None, *, insecure: bool = False) -> None:
        self.address, (self.host, self.port) = address, host_and_port(address)
        self.root_certificates, self.insecure = root_certificates, insecure

    def ask(self, method: str, path: str) -> Answer:
        """The answer to a request without a body.

        Raises:
            OSError: no connection, no answer in time, or no TLS.
            HTTPException: what answers is no HTTP server.
        """
        return within(3 * TIMEOUT, lambda: self._ask(method, path))  # sockets' timeouts do not cover the name server

    def _ask(self, method: str, path: str) -> Answer:
        if self.insecure:
            connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        else:
            # Unverified: nothing secret is sent, and a wrong clock must be found although it makes TLS fail.
            connection = HTTPSConnection(self.host, self.port, timeout=TIMEOUT, context=unverified())
        began = time.time()
        try:
            connection.request(method, path)
            response = connection.getresponse()
            at = (began + time.time()) / 2
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read(LARGEST), at)
        finally:
            connection.close()

    @cached_property
    def hello(self) -> Answer | OSError | HTTPException:
        """The first answer, or the error in place of it: asked for only once, so that a dead host costs one time limit.

        The request is `GET /health`. A proxy that lets nodes through only to the Fleet API hides that; then it is a
        call of that API without a body, which a SuperLink refuses with 415.
        """
        try:
            answer = self.ask("GET", "/health")
            return answer if answer.status == 200 else self.ask("POST", "/v1/fleet/pull-messages")
        except (OSError, HTTPException) as error:
            return error

    @property
    def answers(self) -> bool:
        """Whether a SuperLink answers."""
        return isinstance(self.hello, Answer) and self.hello.status in (200, 415)


def unverified() -> ssl.SSLContext:
    """A TLS context that accepts any certificate, to see what answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context

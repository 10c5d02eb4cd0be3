"""The TLS handshake with the SuperLink, as a SuperNode makes it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from cryptography import x509

from fedhpro_flwr.doctor.contact import TIMEOUT, Contact, unverified
from fedhpro_flwr.doctor.deadline import within
from fedhpro_flwr.doctor.finding import Finding, Level, problem
from fedhpro_flwr.doctor.key_files import dated
from fedhpro_flwr.doctor.pem import names_of, read_certificates
from fedhpro_flwr.doctor.subject import Subject


def handshake(subject: Subject) -> Finding | None:
    """The certificate that the SuperLink shows: signed by a CA that this machine trusts, for this name, not expired."""
    link = subject.superlink
    if link is None or link.insecure or not link.answers:
        return None
    trusted = str(link.root_certificates) if link.root_certificates else None
    try:
        context = ssl.create_default_context(cafile=trusted)
    except (OSError, ssl.SSLError) as error:
        return problem("tls", f"{trusted}: {error}", "name a PEM file of certificates with --root-certificates")
    try:
        shown = x509.load_der_x509_certificate(peer_certificate(link, context))
    except ssl.SSLCertVerificationError as error:
        shown = x509.load_der_x509_certificate(peer_certificate(link, unverified()))
        return problem("tls", error.verify_message, _advice(link, shown, trusted))
    return dated("tls", shown, f"{link.host} is the server's name, its certificate is trusted")


def peer_certificate(link: Contact, context: ssl.SSLContext) -> bytes:
    """The certificate a server shows, in DER.

    Raises:
        OSError: no connection, or (SSLCertVerificationError) a certificate that the context does not accept.
    """

    def shake() -> bytes:
        with (
            socket.create_connection((link.host, link.port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=link.host) as encrypted,
        ):
            return encrypted.getpeercert(binary_form=True) or b""

    return within(3 * TIMEOUT, shake)


def _advice(link: Contact, shown: x509.Certificate, trusted: str | None) -> str:
    dates = dated("tls", shown, "")
    if dates.level is Level.PROBLEM:
        return f"{dates.found}: {dates.advice}"
    names = names_of(shown)
    if not names.cover(link.host):
        return f"connect by a name it holds ({names}), or have one issued for {link.host}"
    if trusted is None:
        return "name the CA's certificate as root-certificates, here and wherever Flower is told of this SuperLink"
    given = Path(trusted)
    whose = "the server's own" if shown in read_certificates(given) else "another CA's"
    return f"get the ca.crt the server's certificate was signed with: {given.name} is {whose}"

"""Reads certificates and private keys from their files, and the names a certificate is for."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, in their order.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path} holds no certificate in PEM") from None


def read_private_key(path: Path) -> PrivateKeyTypes:
    """A private key without a passphrase, in PEM or in OpenSSH's format.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none, or wants a passphrase.
    """
    content = path.read_bytes()
    try:
        if is_openssh(content):
            return load_ssh_private_key(content, password=None)
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError(f"{path} wants a passphrase, which nobody is there to type when the service starts") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no private key") from None


def is_signed(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Whether a certificate, through those that follow it in its file, was issued by one of the roots."""
    for certificate, issuer in pairwise(chain):
        if any(_issued(certificate, root) for root in roots):
            return True
        if not _issued(certificate, issuer):
            return False
    return any(_issued(chain[-1], root) for root in roots)


@dataclass(frozen=True)
class Names:
    """What a certificate's SubjectAltName holds; clients today ignore a certificate's CommonName."""

    dns: tuple[str, ...]
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join((*self.dns, *self.addresses)) or "no name"

    def cover(self, host: str) -> bool:
        """Whether a client that connects to `host` accepts the certificate."""
        try:
            return str(ipaddress.ip_address(host)) in self.addresses
        except ValueError:
            known = {name.lower() for name in self.dns}
            return host.lower() in known or f"*.{host.lower().partition('.')[2]}" in known


def names_of(certificate: x509.Certificate) -> Names:
    """The names a server's certificate is for."""
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names((), ())
    addresses = (str(address) for address in held.get_values_for_type(x509.IPAddress))
    return Names(tuple(held.get_values_for_type(x509.DNSName)), tuple(addresses))


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others, or signed itself: only such a certificate can end a chain."""
    try:
        signs = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        signs = certificate.version is x509.Version.v1  # version 1 has no way to say whether it may sign
    return signs or certificate.issuer == certificate.subject


def is_openssh(content: bytes) -> bool:
    """Whether a private key is in OpenSSH's own format, which Flower needs for a node's key."""
    return content.startswith(OPENSSH)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True

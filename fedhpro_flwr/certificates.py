"""What it takes to try a federation with TLS and authenticated nodes: a certificate authority, the server's
certificate and key pairs of nodes, as one folder of files.

    ca.crt              to every machine: who signed the server's certificate
    ca.key              stays; whoever has it can pose as the server
    server.crt, .key    to the server: TLS of the SuperLink, and of a proxy before it
    node-0, node-0.pub  the private key to the node; the public one is registered at the SuperLink
    ...

Made with `cryptography`, which Flower brings. Meant for trying out, and for a consortium small enough to hand files
over: a real PKI keeps the CA's key offline, lets every machine make its own key and a signing request for it, issues
certificates for weeks, renews them by itself, and can revoke them. Here whoever runs the command has seen every key.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedhpro_flwr.settings.flat_keys import ConfigError

CA_CERTIFICATE, CA_KEY = "ca.crt", "ca.key"
SERVER_CERTIFICATE, SERVER_KEY = "server.crt", "server.key"
ALWAYS = ("localhost", "127.0.0.1")  # the SuperLink's own helper processes and a proxy beside it connect to these
AUTHORITY_DAYS = 3650  # nodes trust the authority: a new one means a new ca.crt on every machine
BACKDATED = timedelta(hours=1)  # so that the certificate is already valid for a node whose clock is a little slow
NODE_KEY = re.compile(r"node-(\d+)(\.pub)?")
DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def make_certificates(folder: Path, names: Sequence[str], nodes: int, days: int) -> None:
    """Make the folder with everything in it, whole or not at all; only its owner can read the private keys (mode 0600
    in a folder of mode 0700).

    Args:
        folder: must not exist, or be empty.
        names: DNS names and IP addresses at which the server is reached; ALWAYS are added.
        nodes: how many node key pairs.
        days: how long the server's certificate is valid; the authority's is for AUTHORITY_DAYS, so that it can sign the
            next one too.

    Raises:
        ConfigError: the folder holds something, or a name is neither a DNS name nor an IP address.
        OSError: the folder cannot be made.
    """
    alternatives = alternative_names(names)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder that does not exist yet")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and nothing is overwritten; name a new folder, or use --add-nodes")
    folder.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    until, authority_until = now + timedelta(days=days), now + timedelta(days=max(days, AUTHORITY_DAYS))
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:  # of mode 0700
        made = Path(scratch) / "made"
        made.mkdir(mode=0o700)
        authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = authority_certificate(authority_key, authority_until)
        server = server_certificate(server_key.public_key(), alternatives, authority, authority_key, until)
        _write_new(made / CA_KEY, _pem(authority_key), 0o600)
        _write_new(made / SERVER_KEY, _pem(server_key), 0o600)
        _write_new(made / CA_CERTIFICATE, authority.public_bytes(Encoding.PEM), 0o644)
        _write_new(made / SERVER_CERTIFICATE, server.public_bytes(Encoding.PEM), 0o644)
        _write_nodes(made, range(nodes))
        made.replace(folder)


def add_nodes(folder: Path, more: int) -> list[int]:
    """Add key pairs of nodes to a folder; the certificates stay as they are. Returns the numbers of the new nodes.

    Raises:
        ConfigError: the folder was not made by `make_certificates`.
        OSError: the folder cannot be written.
    """
    if not (folder / CA_CERTIFICATE).is_file():
        raise ConfigError(f"{folder} holds no {CA_CERTIFICATE}; name a folder that `fedhpro certs` made")
    there = [int(found[1]) for path in folder.iterdir() if (found := NODE_KEY.fullmatch(path.name))]
    first = max(there, default=-1) + 1
    new = list(range(first, first + more))
    _write_nodes(folder, new)
    return new


def authority_certificate(key: ec.EllipticCurvePrivateKey, until: datetime) -> x509.Certificate:
    """A certificate authority that signs itself and may sign servers, but no further authorities."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedhpro trial CA")])
    return (
        _begun(name, name, key.public_key(), until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def server_certificate(
    key: ec.EllipticCurvePublicKey,
    names: Iterable[x509.GeneralName],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    until: datetime,
) -> x509.Certificate:
    """A certificate for a TLS server at `names`, signed by the authority."""
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedhpro SuperLink")])
    return (
        _begun(name, authority.subject, key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def alternative_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """The names of a server as a certificate holds them, ALWAYS among them, none twice.

    Raises:
        ConfigError: there is none, or one is neither a DNS name nor an IP address.
    """
    if not names:
        raise ConfigError("--server: name the server as nodes will reach it, a DNS name or an IP address")
    return [_alternative(name) for name in dict.fromkeys([*names, *ALWAYS])]


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        # What looks like an address and is none must not become a DNS name that nothing ever matches.
        if len(name) > 253 or not DNS_NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal():
            raise ConfigError(
                f"--server {name}: give a DNS name or an IP address, without a port or https://"
            ) from None
        return x509.DNSName(name)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC) - BACKDATED).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_nodes(folder: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        key = ec.generate_private_key(ec.SECP384R1())  # Flower takes NIST curves alone, and OpenSSH's format
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        _write_new(folder / f"node-{number}", private, 0o600)
        _write_new(folder / f"node-{number}.pub", public + f" node-{number}\n".encode(), 0o644)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet, never readable by more than `mode` says, not even for a moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)

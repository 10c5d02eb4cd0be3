"""Certificates and keys as files: readable to the right people, valid, and belonging together."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedhpro_flwr.certificates import ALWAYS
from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.pem import is_authority, is_openssh, is_signed, names_of, read_certificates, read_private_key
from fedhpro_flwr.doctor.subject import Subject

SOON = 30  # days before a certificate expires, from which on there is a warning
NIST_CURVES = (ec.SECP192R1, ec.SECP224R1, ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
RENEW = "renew it, with ca.key as docs/deployment.md says; without it `fedhpro certs NEWFOLDER ...` makes a new CA"


def root_certificates(subject: Subject) -> Finding | None:
    """The root certificates' file: it holds those of a CA, and they are valid now."""
    if subject.root_certificates is None:
        return None
    try:
        found = read_certificates(subject.root_certificates)
    except (OSError, ValueError) as error:
        return problem("root certificates", str(error), "name the CA's certificate, a PEM file such as ca.crt")
    if not any(map(is_authority, found)):
        held = found[0].subject.rfc4514_string() or "what it holds"
        said = f"{subject.root_certificates}: {held} is no CA"
        return warning("root certificates", said, "name the CA's own certificate, such as ca.crt")
    first = min(found, key=lambda certificate: certificate.not_valid_after_utc)
    return dated("root certificates", first, first.subject.rfc4514_string())


def certificate(subject: Subject) -> Finding | None:
    """The SuperLink's certificate: valid now, signed by the CA, and for the names under which it is reached."""
    if subject.certificate is None:
        return None
    try:
        chain = read_certificates(subject.certificate)
        roots = read_certificates(subject.root_certificates) if subject.root_certificates else []
    except (OSError, ValueError) as error:
        return problem("certificate", str(error), "name the server's certificate, a PEM file such as server.crt")
    names = names_of(chain[0])
    if roots and not is_signed(chain, roots):
        found = f"{subject.certificate} was not signed by {subject.root_certificates}"
        return problem("certificate", found, "take the two files of one CA")
    needed = [ALWAYS[1], *([subject.superlink.host] if subject.superlink else [])]
    missing = [name for name in needed if not names.cover(name)]
    if missing:
        found = f"it is for {names}, not for {', '.join(missing)}"
        return problem("certificate", found, f"have it issued for {' and '.join(missing)} too (Flower dials 127.0.0.1)")
    return dated("certificate", chain[0], f"for {names}")


def private_key(subject: Subject) -> Finding | None:
    """Nobody else can read the key; a SuperLink's fits its certificate, a node's is of a kind that Flower takes."""
    if subject.key is None:
        return None
    try:
        mode = subject.key.stat().st_mode & 0o777
        key = read_private_key(subject.key)
    except (OSError, ValueError) as error:
        return problem("private key", str(error), "name the private key, such as server.key or node-0")
    if mode & 0o007:
        found = f"anybody on this machine may read {subject.key} (mode {mode:04o})"
        return problem("private key", found, f"run `chmod 600 {subject.key}`, and make a new key if others were here")
    if subject.certificate is not None:
        try:
            fits = read_certificates(subject.certificate)[0].public_key() == key.public_key()
        except (OSError, ValueError):
            return None  # the check of the certificate tells this error
        if not fits:
            found = f"{subject.key} is not the key of {subject.certificate}"
            return problem("private key", found, "name the key that was made with the certificate")
    elif subject.role == "supernode" and not (
        isinstance(key, ec.EllipticCurvePrivateKey)
        and isinstance(key.curve, NIST_CURVES)
        and is_openssh(subject.key.read_bytes())
    ):
        found = f"{subject.key} is no key that Flower takes for a node"
        return problem("private key", found, "make one: `fedhpro certs`, or `ssh-keygen -t ecdsa -b 384 -N ''`")
    if mode & 0o070:
        return warning(
            "private key", f"its group may read {subject.key} (mode {mode:04o})", f"run `chmod 600 {subject.key}`"
        )
    return ok("private key", f"{subject.key}, mode {mode:04o}")


def dated(check: str, certificate: x509.Certificate, found: str) -> Finding:
    """Whether a certificate is valid now, and for how long; `found` says what else is known of it."""
    now, begins, ends = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        return problem(check, f"expired on {ends:%Y-%m-%d}", RENEW)
    if now < begins:
        return problem(check, f"valid from {begins:%Y-%m-%d %H:%M} UTC only", "set this machine's clock, or wait")
    days = (ends - now).days
    if days < SOON:
        return warning(check, f"{found}; {days} days left, until {ends:%Y-%m-%d}", RENEW)
    return ok(check, f"{found}; {days} days left")

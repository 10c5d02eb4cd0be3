"""Which code a process runs, in sixteen characters that clients and server, and a resumed run, compare."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def code_fingerprint() -> str:
    """A hash over the three packages' sources: a client whose code is not the server's must not train unnoticed."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for package in ("fedhpro_flwr", "server_app", "client_app"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]

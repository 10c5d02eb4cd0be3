"""Which SuperLink a command line means: a connection in Flower's config.toml by its name, or an address."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tomli_w

from fedhpro_flwr.address import host_and_port
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.settings.toml_file import read_given_toml

CONFIG_FILE = "config.toml"
LOCAL = ":local"  # an address that begins so stands for a SuperLink that Flower starts on this machine
DIRECT = "superlink"  # the connection's name if an address is given in place of one


def flower_home() -> Path:
    """Where Flower keeps its config.toml."""
    return expanded(os.environ.get("FLWR_HOME") or "~/.flwr").resolve()


def named(name: str, home: Path) -> str:
    """The name, checked to be that of a connection to a SuperLink that somebody has started.

    Raises:
        ConfigError: there is none of that name, the file is no TOML, or Flower would start a SuperLink of its own.
    """
    path = home / CONFIG_FILE
    connections = _tables(read_given_toml(path).get("superlink") if path.exists() else None)
    known = [key for key, value in connections.items() if not _address(value).startswith(LOCAL)]
    if name not in connections:
        there = f"only {', '.join(known)}" if known else "there is none yet"
        raise ConfigError(
            f"--superlink {name}: no connection of that name in {path}, {there}; add [superlink.{name}] with its "
            "address there, or name HOST:PORT"
        )
    if name not in known:
        raise ConfigError(f"--superlink {name} stands for a simulation on this machine; leave --superlink out for it")
    return name


def direct(address: str, home: Path, *, insecure: bool = False, root_certificates: str = "") -> str:
    """A connection to HOST:PORT, written to a config.toml of its own in `home`.

    Raises:
        ConfigError: it is no address, the certificate is not there, or one is given for a connection without TLS.
    """
    host_and_port(address)
    if insecure and root_certificates:
        raise ConfigError("--insecure means no TLS, so --root-certificates has no use beside it; leave one out")
    connection: dict[str, Any] = {"address": address, "insecure": insecure}
    if root_certificates:
        path = expanded(root_certificates).resolve()
        if not path.is_file():
            raise ConfigError(f"--root-certificates {root_certificates}: there is no such file")
        connection["root-certificates"] = str(path)
    (home / CONFIG_FILE).write_text(
        tomli_w.dumps({"superlink": {"default": DIRECT, DIRECT: connection}}), encoding="utf-8"
    )
    return DIRECT


def _tables(value: object) -> dict[str, Any]:
    return {key: inner for key, inner in value.items() if isinstance(inner, dict)} if isinstance(value, dict) else {}


def _address(connection: dict[str, Any]) -> str:
    return str(connection.get("address", LOCAL))

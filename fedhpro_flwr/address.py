"""Where a SuperLink listens, as Flower takes it: HOST:PORT."""

from __future__ import annotations

from fedhpro_flwr.settings.flat_keys import ConfigError


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts; an IPv6 address stands in brackets, which are taken off.

    Raises:
        ConfigError: the address is none.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if "/" in address or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(
            f"--superlink {address}: write it as HOST:PORT, as in superlink.example.org:8000, without http:// or https://"
        )
    return host, int(port)

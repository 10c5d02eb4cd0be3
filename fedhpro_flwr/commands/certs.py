"""`fedhpro certs`: certificates and node keys for trying a federation with TLS and authenticated nodes."""

from __future__ import annotations

import argparse
import ipaddress
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from fedhpro_flwr.certificates import (
    ALWAYS,
    CA_CERTIFICATE,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    add_nodes,
    make_certificates,
)
from fedhpro_flwr.commands import OK, Subparsers
from fedhpro_flwr.commands.complaint import say
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.settings.flat_keys import ConfigError

PORT = 8000  # Flower's default
PROXY_PORT = 443  # of docs/deployment/nginx.conf
MOST_NODES, MOST_DAYS = 10_000, 3650
LISTED = 4  # keys that the commands register line by line; if there are more, in a loop

FOR_TRYING_OUT = """\
For trying out, and for a consortium small enough to hand files over. This command has seen every private key,
and nothing it issues can be revoked: a real PKI keeps the CA's key off line, has every machine make its own key,
issues for weeks and renews by itself. Move ca.key off this machine; renewing the certificate is what needs it again."""


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro certs`."""
    command = commands.add_parser(
        "certs",
        help="make a CA, a server certificate and node keys, to try TLS and node authentication",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=FOR_TRYING_OUT,
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="made with mode 0700; nothing is ever overwritten")
    command.add_argument(
        "--server",
        metavar="NAME[,NAME...]",
        help=f"DNS names and IP addresses at which nodes reach the server; {' and '.join(ALWAYS)} are added",
    )
    command.add_argument("--nodes", type=_upto(MOST_NODES), metavar="N", help="key pairs of nodes")
    command.add_argument(
        "--days", type=_upto(MOST_DAYS), metavar="D", help="validity of the server's certificate (default: 365)"
    )
    command.add_argument(
        "--add-nodes", type=_upto(MOST_NODES), metavar="K", help="add key pairs to a FOLDER that exists, nothing else"
    )
    command.set_defaults(command=certs)


def certs(options: argparse.Namespace, console: Console) -> int:
    """Make the folder of certificates and keys, or add to it, and say what to run next.

    Raises:
        ConfigError: options do not go together, the folder holds something, or a name is not valid.
        OSError: the folder cannot be written.
    """
    folder: Path = expanded(options.folder).resolve()
    if options.add_nodes:
        if options.server or options.nodes or options.days:
            raise ConfigError(
                "--add-nodes adds keys and changes no certificate; leave --server, --nodes and --days out"
            )
        new = add_nodes(folder, options.add_nodes)
        say(
            console, f"certs: {_nodes(new)} added to {folder}\n\nRegister each on the server, while the SuperLink runs:"
        )
        say(console, _register(folder, new))
        return OK
    if not options.server or not options.nodes:
        raise ConfigError("a new folder needs --server NAME and --nodes N; one that exists takes --add-nodes K")
    names = [name.strip() for name in options.server.split(",") if name.strip()]
    reached = next((name for name in names if not name.startswith("*.")), "")
    if names and not reached:
        raise ConfigError(
            f"--server {options.server}: nodes cannot connect to a wildcard; name the server too, as fl.example.org"
        )
    days = options.days or 365
    make_certificates(folder, names, options.nodes, days)
    until = datetime.now(UTC) + timedelta(days=days)
    every_name = ", ".join(dict.fromkeys([*names, *ALWAYS]))
    say(
        console,
        f"certs: a CA, the certificate of the server {every_name}, which ends on {until:%Y-%m-%d}, "
        f"and keys of {_nodes(range(options.nodes))} in {folder}",
    )
    say(console, _next_commands(folder, reached, options.nodes))
    say(console, FOR_TRYING_OUT)
    return OK


def _next_commands(folder: Path, server: str, nodes: int) -> str:
    ca, certificate, key = (_quoted(folder / name) for name in (CA_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY))
    if _is_here(server):
        # By whatever name this machine is called, the SuperLink listens at 127.0.0.1, which its certificate is for.
        address, way = f"{server if server in ALWAYS else '127.0.0.1'}:{PORT}", "all on this machine"
    else:
        address = f"[{server}]:{PROXY_PORT}" if ":" in server else f"{server}:{PROXY_PORT}"
        way = f"port {PROXY_PORT} is the proxy's, docs/deployment.md: never open the SuperLink's own, "
        way += "whoever reaches it can run code on every node"
    return f"""
1. On the server, which needs ca.crt, server.crt and server.key:
   flower-superlink --host 127.0.0.1 --port {PORT} --ssl-ca-certfile {ca} --ssl-certfile {certificate} \\
     --ssl-keyfile {key} --enable-supernode-auth --database state.db --disable-runtime-dependency-installation

2. On the server too, while the SuperLink runs, with these lines in ~/.flwr/config.toml:
   [superlink.trial]
   address = "127.0.0.1:{PORT}"
   root-certificates = "{folder / CA_CERTIFICATE}"

{_register(folder, range(nodes))}

3. On each node, which needs ca.crt and its own node-<i>, no other key ({way}):
   flower-supernode --superlink {address} --root-certificates {ca} \\
     --auth-supernode-private-key {_quoted(folder / "node-0")} --port 9094 \\
     --node-config 'partition-id=0 num-partitions={nodes}'
   On one machine give every node a --port of its own: 9094, 9095, ...

4. Look whether a machine is ready, on the server and on each node:
   fedhpro doctor --role superlink --root-certificates {ca} --certificate {certificate} --key {key}
   fedhpro doctor --role supernode --superlink {address} --root-certificates {ca} --key {_quoted(folder / "node-0")}
"""


def _register(folder: Path, numbers: Sequence[int]) -> str:
    if len(numbers) <= LISTED:
        keys = [_quoted(folder / f"node-{number}.pub") for number in numbers]
        return "\n".join(f"   flwr supernode register {key} trial" for key in keys)
    each = f"$(seq {numbers[0]} {numbers[-1]})"
    return f"   for i in {each}; do flwr supernode register {_quoted(folder)}/node-$i.pub trial; done"


def _nodes(numbers: Sequence[int]) -> str:
    return f"node-{numbers[0]}" + (f" to node-{numbers[-1]}" if len(numbers) > 1 else "")


def _is_here(server: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(server).is_loopback
    return server == "localhost"


def _upto(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: it must be from 1 to {most}")
        return value

    return number


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

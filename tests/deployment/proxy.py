"""nginx before a cluster's SuperLink, from the configuration that is shipped: only ports and places are put in."""

from __future__ import annotations

import getpass
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

from fedhpro_flwr.certificates import CA_CERTIFICATE

SHIPPED = Path(__file__).resolve().parents[2] / "docs" / "deployment" / "nginx.conf"
NAME = "superlink.example.org"  # the server's name in the configuration and in the certificate
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
START_SECONDS = 20.0
AROUND = """\
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path       {folder}/proxied;
    fastcgi_temp_path     {folder}/fastcgi;
    uwsgi_temp_path       {folder}/uwsgi;
    scgi_temp_path        {folder}/scgi;
    include {folder}/fedhpro.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """An nginx that runs.

    Args:
        port: where it listens, on loopback.
        ca: who signed its certificate.
        log: what it was asked that did not go well.
    """

    port: int
    ca: Path
    log: Path

    def ask(self, line: str, headers: str = "", body: bytes = b"") -> tuple[int, str]:
        """Send a request as it stands, which a well-meaning client library would not; returns (status, answer).

        Args:
            line: "POST /path HTTP/1.1", with whatever in it.
            headers: more of them, each ended by CRLF.
            body: after the headers.
        """
        context = ssl.create_default_context(cafile=str(self.ca))
        with (
            create_connection(("127.0.0.1", self.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=NAME) as connection,
        ):
            connection.sendall(
                f"{line}\r\nHost: {NAME}\r\nContent-Type: application/protobuf\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n{headers}\r\n".encode()
                + body
            )
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        return int(answer.split()[1]), answer.decode(errors="replace")

    def trouble(self) -> list[str]:
        """The lines it logged."""
        return self.log.read_text().splitlines()


@contextmanager
def nginx(folder: Path, certificates: Path, superlink_port: int, port: int) -> Iterator[Proxy]:
    """Run nginx in the foreground until the block is left.

    Args:
        folder: for its files; made.
        certificates: the folder that `fedhpro certs` makes.
        superlink_port: of the SuperLink, on loopback.
        port: to listen on, on loopback.
    """
    assert NGINX is not None
    folder.mkdir()
    text = SHIPPED.read_text(encoding="utf-8")
    for shipped, ours in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{superlink_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/fedhpro/server.crt": str(certificates / "server.crt"),
        "/etc/fedhpro/server.key": str(certificates / "server.key"),
        "/etc/fedhpro/ca.crt": str(certificates / CA_CERTIFICATE),
        "/var/log/nginx/fedhpro.log": str(folder / "fedhpro.log"),
    }.items():
        assert text.count(shipped) == 1, f"{SHIPPED.name}: {shipped!r} stands there {text.count(shipped)} times"
        text = text.replace(shipped, ours)
    (folder / "fedhpro.conf").write_text(text)
    (folder / "nginx.conf").write_text(AROUND.format(user=getpass.getuser(), folder=folder))
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        proxy = Proxy(port, certificates / CA_CERTIFICATE, folder / "fedhpro.log")
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            running = process.poll() is None and time.monotonic() < deadline
            assert running, (folder / "error.log").read_text()
            time.sleep(0.05)
        yield proxy
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True

"""A server that answers like a SuperLink, like one behind a proxy, or like neither."""

import json
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedhpro_flwr.certificates import alternative_names, authority_certificate, make_certificates, server_certificate

RELEASE = version("flwr")
SUPERLINK = {
    ("GET", "/health"): 200,
    ("POST", "/v1/fleet/pull-messages"): 415,
    ("GET", "/v1/control/list-runs"): 405,
    ("GET", "/openapi.json"): 200,
}


@pytest.fixture(scope="session")
def trial(tmp_path_factory):
    """A folder of `fedhpro certs` for fl.example.org."""
    folder = tmp_path_factory.mktemp("trial") / "trial"
    make_certificates(folder, ["fl.example.org"], nodes=1, days=365)
    return folder


@pytest.fixture
def issue(tmp_path):
    """Make a server certificate and its key for these names alone: `issue(names, until)` -> their folder."""

    def make(names, until=timedelta(days=365)):
        folder = tmp_path / f"issued-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        end = datetime.now(UTC) + until
        authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = authority_certificate(authority_key, end)
        held = [name for name in alternative_names(names) if str(name.value) in names]
        server = server_certificate(key.public_key(), held, authority, authority_key, end)
        (folder / "ca.crt").write_bytes(authority.public_bytes(Encoding.PEM))
        (folder / "server.crt").write_bytes(server.public_bytes(Encoding.PEM))
        (folder / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (folder / "server.key").chmod(0o600)
        return folder

    return make


@pytest.fixture
def serve():
    """Start a server: `serve(statuses, other=404, release="1.41.0", ahead=0, tls=None)` -> its port.

    `ahead`: seconds its clock is ahead of this machine's; `tls`: folder whose server.crt it shows.
    """
    servers = []

    def start(statuses=SUPERLINK, other=404, release=RELEASE, ahead=0.0, tls=None):
        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = json.dumps({"info": {"version": release}}).encode() if self.path == "/openapi.json" else b""
                self.send_response(statuses.get((self.command, self.path), other))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + ahead, usegmt=True)

            def log_message(self, *_):
                pass

            do_GET = do_POST = answer

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "server.crt", tls / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # a refused handshake is part of a test
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def unused():
    """A port on which nobody listens: `unused()`."""

    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find

"""The page of the Rerun viewer, served over HTTP to browsers on this network, without the internet.

The page and its program are in the wheel of rerun-sdk, whose own server is asked for them once. It cannot be bound to
an address, sends 43 MB uncompressed, and its page loads fonts and reports usage over the internet; this one is bound,
compresses, and forbids the page every connection but those to this machine (Content-Security-Policy).
"""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

import psutil  # type: ignore[import-untyped]

from depth_node.errors import DepthNodeError

ASSETS = ("index.html", "re_viewer.js", "re_viewer_bg.wasm", "favicon.ico")
START_SECONDS = 30.0
POLL_SECONDS = 0.1  # how soon it stops

_SERVE_ASSETS = """
import sys
import rerun
rerun.serve_web_viewer(web_port=int(sys.argv[1]), open_browser=False)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Asset:
    """A file of the page. body: compressed with gzip. etag: names its content."""

    content_type: str
    body: bytes
    etag: str


class WebPage:
    """Serves the viewer's page in a thread until closed.

    bind: IPv4 address to listen on. port: 0 takes a free one. grpc_port: where the page gets its data.
    host_names: names and addresses by which browsers may call this machine.

    Raises:
        DepthNodeError: the port is taken, or the address is not one of this machine.
    """

    def __init__(
        self, assets: Mapping[str, Asset], bind: str, port: int, grpc_port: int, host_names: Collection[str]
    ) -> None:
        try:
            self._server = _Server((bind, port), _Handler)
        except OSError as error:
            raise DepthNodeError(
                f"cannot serve the page on {bind}:{port}: {error.strerror}; choose another --port"
            ) from error
        self._server.assets, self._server.grpc_port, self._server.host_names = assets, grpc_port, frozenset(host_names)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="web_page", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    assets: Mapping[str, Asset]
    grpc_port: int
    host_names: frozenset[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if host not in self.server.host_names:
            # Else any name that resolves to this machine could be used to read the camera (DNS rebinding).
            text = (
                f"This machine does not go by the name '{host}' here. Start the viewer with --host {host or 'NAME'}.\n"
            )
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain; charset=utf-8", text.encode())
            return
        data = f"http://{host}:{self.server.grpc_port}"
        path, _, query = self.path.partition("?")
        if path == "/" and "url=" not in query:
            location = f"/?url={quote(f'rerun+{data}/proxy', safe='')}&hide_welcome_screen=1&persist=0"
            self._answer(HTTPStatus.FOUND, "text/plain", b"", {"Location": location})
            return
        asset = self.server.assets.get(path.removeprefix("/") or "index.html")
        if asset is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"")
            return
        headers = {
            "Cache-Control": "no-cache",  # ask again, for a 304 as long as it is the same version
            "ETag": asset.etag,
            "Content-Security-Policy": content_security_policy(data),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        if self.headers.get("If-None-Match") == asset.etag:
            self._answer(HTTPStatus.NOT_MODIFIED, asset.content_type, b"", headers)
        else:
            self._answer(HTTPStatus.OK, asset.content_type, asset.body, {**headers, "Content-Encoding": "gzip"})

    def _answer(
        self, status: HTTPStatus, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No line per request."""


def content_security_policy(data: str) -> str:
    """What the page may do: run its own program, and connect to this server and to `data` (http://HOST:PORT) only."""
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "worker-src 'self' blob:",
            f"connect-src 'self' {data}",
        )
    )


def load_assets() -> dict[str, Asset]:
    """The viewer's files by name, from rerun-sdk's own server, in a process that ends when it has given them.

    Raises:
        DepthNodeError: they did not come.
    """
    port = free_port()
    command = [sys.executable, "-c", _SERVE_ASSETS, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            return {name: _load_asset(f"http://127.0.0.1:{port}/{name}", process) for name in ASSETS}
        finally:
            process.kill()


def _load_asset(url: str, process: subprocess.Popen[bytes]) -> Asset:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_SECONDS) as response:
                content = response.read()
                content_type = response.headers["Content-Type"]
        except (urllib.error.URLError, ConnectionError) as error:
            if process.poll() is None and time.monotonic() < deadline and not isinstance(error, urllib.error.HTTPError):
                time.sleep(0.05)
                continue
            raise DepthNodeError(f"the installed rerun-sdk does not give its web viewer ({url}: {error})") from error
        # Level 1: a third of the size after half a second; higher levels take long for little.
        body = gzip.compress(content, compresslevel=1, mtime=0)
        return Asset(content_type, body, f'"{sha256(content).hexdigest()[:32]}"')


def free_port() -> int:
    """A port of the loopback that nobody listens on, for servers that do not say which one they were given."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def own_host_names() -> list[str]:
    """Names and IPv4 addresses of this machine: host name, addresses in networks, loopback."""
    name = socket.gethostname()
    addresses = [
        address.address
        for addresses_of_interface in psutil.net_if_addrs().values()
        for address in addresses_of_interface
        if address.family == socket.AF_INET
    ]
    addresses.sort(key=lambda address: address.startswith("127."))
    names = [name, *([] if "." in name else [f"{name}.local"]), *addresses, "localhost"]
    return list(dict.fromkeys(names))

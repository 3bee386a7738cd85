"""The viewer's page, and the relay in front of its data."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rerun")


from depth_node.errors import DepthNodeError
from depth_node.tools.view import web_page
from depth_node.tools.view.relay import Relay
from viewing import free_ports, get


@pytest.fixture(scope="module")
def page() -> Iterator[web_page.WebPage]:
    """The viewer's page, that goes by the names robot and 127.0.0.1, with its data on port 4321."""
    served = web_page.WebPage(web_page.load_assets(), "127.0.0.1", 0, 4321, ["robot", "127.0.0.1"])
    yield served
    served.close()


def test_page_and_program_come_from_this_machine(page: web_page.WebPage) -> None:
    code, headers, body = get(page.port, "/", Host=f"robot:{page.port}")
    assert code == 302
    assert headers["Location"].startswith("/?url=rerun%2Bhttp%3A%2F%2Frobot%3A4321%2Fproxy")
    code, headers, body = get(page.port, headers["Location"], Host=f"robot:{page.port}")
    assert code == 200
    html = gzip.decompress(body).decode()
    assert "re_viewer.js" in html
    code, headers, body = get(page.port, "/re_viewer_bg.wasm")
    assert (code, headers["Content-Type"], headers["Content-Encoding"]) == (200, "application/wasm", "gzip")
    wasm = gzip.decompress(body)
    assert wasm.startswith(b"\0asm")
    assert len(body) < len(wasm) / 2
    code, _, body = get(page.port, "/re_viewer.js")
    assert code == 200
    assert b"WebHandle" in gzip.decompress(body)


def test_page_may_speak_to_this_machine_only(page: web_page.WebPage) -> None:
    for path in ("/?url=x", "/re_viewer.js"):
        policy = get(page.port, path, Host="robot")[1]["Content-Security-Policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'self'"
        assert rules["connect-src"] == "'self' http://robot:4321"
        assert "http" not in rules["script-src"] + rules["style-src"] + rules["img-src"]


def test_reloading_sends_nothing_twice(page: web_page.WebPage) -> None:
    etag = get(page.port, "/re_viewer.js")[1]["ETag"]
    code, headers, body = get(page.port, "/re_viewer.js", **{"If-None-Match": etag})
    assert (code, headers["ETag"], body) == (304, etag, b"")


@pytest.mark.parametrize("host", ["evil.example", "", "192.0.2.99:9090"])
def test_other_names_are_refused_with_what_to_do(page: web_page.WebPage, host: str) -> None:
    code, _, body = get(page.port, "/", Host=host)
    assert code == 421
    assert b"--host" in body


def test_other_paths_are_not_found(page: web_page.WebPage) -> None:
    assert get(page.port, "/../../etc/passwd")[0] == 404


def test_taken_port_is_told(page: web_page.WebPage) -> None:
    with pytest.raises(DepthNodeError, match=f"127.0.0.1:{page.port}: Address already in use; choose another --port"):
        web_page.WebPage({}, "127.0.0.1", page.port, 4321, [])


def test_own_names() -> None:
    names = web_page.own_host_names()
    assert names[0] == socket.gethostname()
    assert "localhost" in names
    assert "127.0.0.1" in names
    assert len(set(names)) == len(names)


@contextmanager
def serving_tcp(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on the loopback that handles one connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def test_relay_passes_everything_on_in_both_directions() -> None:
    data = np.random.default_rng(0).bytes(3_000_000)

    def answer(connection: socket.socket) -> None:
        asked = b""
        while len(asked) < 8:
            asked += connection.recv(8)
        connection.sendall(asked[::-1] + data)

    (port,) = free_ports(1)
    with (
        serving_tcp(answer) as target,
        closing(Relay("127.0.0.1", port, target)),
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        client.sendall(b"question")
        received = b""
        while chunk := client.recv(1 << 20):
            received += chunk
    assert received == b"noitseuq" + data


def test_relay_cuts_off_who_does_not_read_and_nobody_else() -> None:
    ended = threading.Event()

    def send_for_ever(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(bytes(1 << 20))
        except OSError:
            ended.set()

    (port,) = free_ports(1)
    with (
        serving_tcp(send_for_ever) as target,
        closing(Relay("127.0.0.1", port, target, stall_seconds=0.5)),
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert client.recv(1 << 20)
        assert not ended.is_set()
        assert ended.wait(5)  # now it does not read


def test_relay_ends_its_connections_when_closed() -> None:
    (port,) = free_ports(1)
    with serving_tcp(lambda connection: connection.recv(1)) as target:  # type: ignore[arg-type,return-value]
        relay = Relay("127.0.0.1", port, target)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            time.sleep(0.2)
            relay.close()
            assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_relay_without_a_target_hangs_up() -> None:
    port, nobody = free_ports(2)
    with closing(Relay("127.0.0.1", port, nobody)), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        assert client.recv(1) == b""

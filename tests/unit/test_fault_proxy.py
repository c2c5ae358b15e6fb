"""homeport.testing.FaultProxy against a plain server: each fault does what it says."""

from __future__ import annotations

import socket
import socketserver
import threading
import time

import pytest

import homeport as hp
from homeport.testing import FaultProxy
from homeport.testing.requests import RequestReader

POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Echo(socketserver.ThreadingTCPServer):
    """Answers every piece, and remembers what it got."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, answer: bytes | None = None) -> None:
        self.got: list[bytes] = []
        self.ended = threading.Event()
        got, ended = self.got, self.ended

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while piece := self.request.recv(65536):
                        got.append(piece)
                        self.request.sendall(answer or piece)
                    ended.set()
                except OSError:
                    pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def make():
    open_: list = []

    def make(answer: bytes | None = None) -> tuple[Echo, FaultProxy]:
        server = Echo(answer)
        proxy = FaultProxy(server.address)
        open_.extend((proxy.close, server.shutdown, server.server_close))
        return server, proxy

    yield make
    for close in open_:
        close()


def connect(proxy: FaultProxy) -> socket.socket:
    s = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    s.settimeout(5)
    return s


def ask(s: socket.socket, data: bytes) -> bytes:
    s.sendall(data)
    out = b""
    while len(out) < len(data):
        piece = s.recv(65536)
        if not piece:
            break
        out += piece
    return out


def test_bytes_pass_both_ways_and_in_pieces_of_one(make):
    server, proxy = make()
    with connect(proxy) as s:
        assert ask(s, b"hello") == b"hello"
        proxy.chunk_bytes, proxy.latency_s, proxy.jitter_s = 1, 0.001, 0.001
        proxy.bytes_per_s = 1e6
        assert ask(s, b"x" * 300) == b"x" * 300
    assert proxy.address.endswith(str(proxy.port)) and proxy.url == f"http://{proxy.address}"


def test_cut_is_a_reset_and_down_refuses(make):
    _, proxy = make()
    with connect(proxy) as s:
        ask(s, b"1")
        assert proxy.connections == 1
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            s.recv(10)
    proxy.down()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as s:
        assert ask(s, b"again") == b"again"


@pytest.mark.parametrize("held", ["requests", "answers", "both"])
def test_held_bytes_arrive_after_healing(make, held):
    server, proxy = make()
    with connect(proxy) as s:
        ask(s, b"1")
        proxy.held = held
        s.sendall(b"2")
        s.settimeout(0.1)
        with pytest.raises(TimeoutError):
            s.recv(1)
        assert (b"2" in server.got) == (held == "answers")
        proxy.heal()
        s.settimeout(5)
        assert s.recv(1) == b"2"


def test_a_held_connection_can_be_cut(make):
    _, proxy = make()
    with connect(proxy) as s:
        ask(s, b"1")
        proxy.held = "both"
        s.sendall(b"2")
        time.sleep(0.05)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            s.recv(1)


def test_half_close_ends_one_direction_only(make):
    server, proxy = make()
    with connect(proxy) as s:
        ask(s, b"1")
        proxy.half_close("answers")
        assert s.recv(1) == b""
        s.sendall(b"still heard")
        for _ in range(200):
            if b"still heard" in server.got:
                break
            time.sleep(0.01)
        assert b"still heard" in server.got
    with connect(proxy) as s:
        ask(s, b"1")
        proxy.half_close("requests")
        assert server.ended.wait(5)


def test_lost_and_truncated_answers_come_after_the_work(make):
    server, proxy = make(ANSWER)
    proxy.lose_answers = proxy.truncate_answers = 1
    with connect(proxy) as s:
        s.sendall(POST)
        assert s.recv(1000) == ANSWER[: len(ANSWER) // 2]
        with pytest.raises(ConnectionResetError):
            s.recv(1)
    with connect(proxy) as s:
        s.sendall(POST)
        with pytest.raises(ConnectionResetError):
            s.recv(1000)
    assert proxy.lost == 2 and server.got == [POST, POST]
    with connect(proxy) as s:
        s.sendall(POST)
        assert s.recv(1000) == ANSWER


def test_a_request_is_sent_twice_or_replayed(make):
    server, proxy = make(ANSWER)
    proxy.duplicate, proxy.duplicate_within_s = 1.0, 0.0
    with connect(proxy) as s:
        s.sendall(POST[:20])
        time.sleep(0.05)
        s.sendall(POST[20:])
        s.recv(1000)
    for _ in range(200):
        if server.got.count(POST) == 1:
            break
        time.sleep(0.01)
    assert server.got.count(POST) == 1  # whole, beside the pieces of the first
    assert proxy.duplicated == 1 and list(proxy.requests) == [POST]
    proxy.duplicate = 0.0
    assert proxy.replay() == "HTTP/1.1 200 OK"
    assert proxy.replay(POST) == "HTTP/1.1 200 OK"
    assert server.got.count(POST) == 3


def test_another_server_from_now_on(make):
    first, proxy = make()
    second, _ = make()
    with connect(proxy) as s:
        ask(s, b"1")
        proxy.retarget(second.address)
        with pytest.raises(ConnectionResetError):
            s.recv(1)
    with connect(proxy) as s:
        ask(s, b"2")
    assert second.got == [b"2"] and first.got == [b"1"]


def test_no_answer_to_replay_and_bad_arguments(make):
    server, proxy = make()
    assert proxy.replay() == ""
    server.shutdown()
    server.server_close()
    assert proxy.replay(POST, timeout_s=1) == ""
    for bad in ("nowhere", "host:port", "", "http://[1"):
        with pytest.raises(hp.errors.UsageError):
            FaultProxy(bad)


def test_requests_are_found_in_any_pieces():
    stream = POST + b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n" + POST + b"DELETE /y HTTP/1.1\r\n\r\n"
    for size in (1, 7, len(stream)):
        reader = RequestReader()
        found = [r for n in range(0, len(stream), size) for r in reader.feed(stream[n : n + size])]
        assert found == [POST, POST, b"DELETE /y HTTP/1.1\r\n\r\n"]
    for other in (
        b"\0\0\0\x08\x04\xd2\x16\x2f" * 4,
        b"GET /v1/live HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        reader = RequestReader()
        assert [*reader.feed(other), *reader.feed(POST)] == []

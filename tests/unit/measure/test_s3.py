"""The bench of object storage: what it does by itself, without storage and without QEMU."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ops.measure.delay_proxy import FarAway, Head, far_away, has_body
from ops.measure.s3 import BLOCK_BYTES, best_of, dirty_blocks, of_no_delay, shared_out

MIB = 1 << 20
BODY = bytes(range(256)) * 4096


def row(delay_ms: int, disks: int, full: float, restore: float) -> dict[str, float]:
    return {"delay_ms": delay_ms, "disks": disks, "full_mb_per_s": full, "restore_mb_per_s": restore}


def test_a_delay_is_compared_with_none_for_the_same_number_of_disks() -> None:
    rows = [row(0, 1, 100, 200), row(30, 1, 80, 150), row(0, 4, 50, 60), row(30, 4, 50, 30), row(30, 9, 1, 1)]
    assert of_no_delay(rows) == [
        {"delay_ms": 30, "disks": 1, "full": 0.8, "restore": 0.75},
        {"delay_ms": 30, "disks": 4, "full": 1.0, "restore": 0.5},
    ]


def test_the_best_of_each_figure_counts() -> None:
    rows = [
        {**row(30, 1, 80, 100), "incremental_s": 5.0},
        {**row(30, 1, 70, 120), "incremental_s": 4.0},
        row(0, 4, 1, 2),
    ]
    assert best_of(rows) == [{**row(30, 1, 80, 120), "incremental_s": 4.0}, row(0, 4, 1, 2)]


def test_one_percent_of_a_disk_is_rewritten_in_whole_blocks() -> None:
    blocks = dirty_blocks(1024 * MIB, 3)
    assert len(blocks) == len(set(blocks)) == 164
    assert all(offset % BLOCK_BYTES == 0 and offset + BLOCK_BYTES <= 1024 * MIB for offset in blocks)
    assert dirty_blocks(1024 * MIB, 3) == blocks
    assert dirty_blocks(1024 * MIB, 4) != blocks
    assert len(dirty_blocks(MIB, 1)) == 1


@pytest.mark.parametrize(
    ("items", "workers", "shares"),
    [(4, 2, [[0, 2], [1, 3]]), (1, 2, [[0]]), (3, 2, [[0, 2], [1]]), (2, 1, [[0, 1]])],
)
def test_disks_are_shared_out_evenly(items: int, workers: int, shares: list[list[int]]) -> None:
    assert shared_out(range(items), workers) == shares


@pytest.mark.parametrize(
    ("request_", "answer", "expected"),
    [
        (b"GET / HTTP/1.1", b"HTTP/1.1 200 OK", True),
        (b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK", False),
        (b"DELETE / HTTP/1.1", b"HTTP/1.1 204 No Content", False),
        (b"PUT / HTTP/1.1", b"HTTP/1.1 412 Precondition Failed", True),
    ],
)
def test_whether_an_answer_has_a_body(request_: bytes, answer: bytes, expected: bool) -> None:  # noqa: FBT001
    assert has_body(Head(request_ + b"\r\n\r\n"), Head(answer + b"\r\n\r\n")) is expected


def test_a_head_is_read_whatever_its_letters_are() -> None:
    head = Head(b"PUT /a HTTP/1.1\r\nHost: x:1\r\nCONTENT-LENGTH:  12\r\ntransfer-encoding: Chunked\r\n\r\n")
    assert (head.first, head.value(b"host"), head.length, head.is_chunked) == (b"PUT", b"x:1", 12, True)
    assert Head(b"GET / HTTP/1.1\r\n\r\n").length == 0


@pytest.fixture
def far() -> Iterator[FarAway]:
    """A proxy before a server that gives back what it gets: by its length, or in chunks."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            if self.path == "/chunked":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in (body[:1000], body[1000:]):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with far_away("127.0.0.1", server.server_port) as made:
                yield made
        finally:
            server.shutdown()
            thread.join()


def test_a_proxy_passes_on_what_it_gets_and_counts_requests(far: FarAway) -> None:
    connection = http.client.HTTPConnection(far.endpoint.removeprefix("http://"))
    for path in ("/", "/chunked", "/"):
        connection.request("PUT", path, BODY)
        assert connection.getresponse().read() == BODY
        connection.request("HEAD", path)
        assert connection.getresponse().read() == b""
    connection.close()
    assert far.requests() == 6
    far.delay(1)
    assert far.requests() == 6

"""Object storage that answers as it is told. A real server is `ops.object_storage`."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

KEY = "AKIATESTKEY"
SECRET = "secret-that-nobody-may-see"  # noqa: S105 - for a server that takes any


def settings(endpoint: str, *, patience_s: float = 0, timeout_s: float = 30) -> dict[str, str]:
    """The environment for it."""
    return {
        "FREEZEFRAME_S3_ENDPOINT": endpoint,
        "FREEZEFRAME_S3_ACCESS_KEY_ID": KEY,
        "FREEZEFRAME_S3_SECRET_ACCESS_KEY": SECRET,
        "FREEZEFRAME_S3_PATIENCE_S": str(patience_s),
        "FREEZEFRAME_S3_TIMEOUT_S": str(timeout_s),
    }


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    create: bool  # with If-None-Match: *
    body: bytes = field(default=b"", repr=False)
    range: str | None = None  # as its header has it
    key: str | None = None  # the id of the credentials that it is signed with
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Reply:
    status: int
    body: str | bytes = ""
    length: int | None = None  # what is said of the body, if not the truth
    headers: dict[str, str] = field(default_factory=dict)  # beside or in place of the usual ones; "" is not sent

    @classmethod
    def error(cls, status: int, code: str) -> Reply:
        """As servers do, with the credentials' name in it."""
        return cls(
            status, f"<?xml version='1.0'?><Error><Code>{code}</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
        )

    @classmethod
    def listing(cls, asked: Asked, *keys: str) -> Reply:
        """Return the only page of what is asked for."""
        entries = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified><Size>1</Size></Contents>"
            for key in keys
        )
        under = parse_qs(urlsplit(asked.path).query)["prefix"][0]
        said = f"<Prefix>{under}</Prefix><IsTruncated>false</IsTruncated>{entries}"
        return cls(200, f"<?xml version='1.0'?><ListBucketResult>{said}</ListBucketResult>")


@dataclass
class Answering:
    """A server whose answers the test makes."""

    endpoint: str
    answer: Callable[[Asked], Reply] = lambda _: Reply(200)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0


@contextmanager
def answering() -> Iterator[Answering]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body on a kept connection comes 40 ms after its headers

        def setup(self) -> None:
            super().setup()
            own.connections += 1

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            signed = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization") or "")
            asked = Asked(
                self.command,
                self.path,
                create=self.headers.get("If-None-Match") == "*",
                body=body,
                range=self.headers.get("Range"),
                key=signed[1] if signed else None,
                headers={name.lower(): value for name, value in self.headers.items()},
            )
            own.asked.append(asked)
            reply = own.answer(asked)
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(body) if reply.length is None else reply.length))
            usual = {"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT"}
            for name, value in {**usual, **reply.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = reply.length is not None and self.command != "HEAD"

        do_POST = do_GET = do_PUT = do_HEAD = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may have read enough
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    with Server(("127.0.0.1", 0), Handler) as server:
        own = Answering(f"http://127.0.0.1:{server.server_port}")
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield own
        finally:
            server.shutdown()
            thread.join()

"""Requests that the library has signed, sent by ours: kept connections, TLS, proxies, and an end to each."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.layout import CONFIG
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.s3_http import Sender, proxy_of
from freezeframe.settings import SettingsError

from .s3 import Answering, Reply, settings

ADDRESS = "http://s3.example:9000/bucket"


@contextmanager
def raw_server(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer each connection by a function, one after the other. Yield the port."""
    open_now: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) if context else connection as one:
                        open_now[:] = [one]
                        answer(one)
                except OSError:  # whoever asked has had enough
                    continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in open_now:
                with suppress(OSError):  # it is closed
                    one.shutdown(socket.SHUT_RDWR)
    thread.join()


def one_answer(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_a_connection_is_kept(answering_server: Answering) -> None:
    answering_server.answer = lambda asked: Reply(404 if "x" in asked.path else 200, asked.path)
    sender = Sender(answering_server.endpoint, 5)
    for number in range(5):
        assert sender.get(f"{answering_server.endpoint}/{number}", "place", 10) == f"/{number}".encode()
    assert len(answering_server.asked) == 5
    assert answering_server.connections == 1


def test_a_connection_that_the_server_closes_meanwhile_is_made_anew() -> None:
    """It is still there when the request is sent, and gone before there is an answer."""

    def answer(connection: socket.socket) -> None:
        one_answer(connection)
        connection.recv(1 << 16)

    with raw_server(answer) as port:
        sender = Sender(f"http://127.0.0.1:{port}", 5)
        for _ in range(3):
            assert sender.get(f"http://127.0.0.1:{port}/", "place", 10) == b"ok"


def test_a_server_that_only_closes_is_told() -> None:
    with raw_server(lambda connection: connection.close()) as port, pytest.raises(RepositoryNotReadable) as caught:
        Sender(f"http://127.0.0.1:{port}", 5).get(f"http://127.0.0.1:{port}/", "place", 10)
    assert caught.value.transient


def test_an_answer_that_comes_drop_by_drop_has_an_end() -> None:
    """Each drop is in time; all of them would take for ever."""
    done = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not done.wait(0.02):
            connection.sendall(b"x")

    with raw_server(answer) as port:
        with pytest.raises(RepositoryNotReadable, match="place failed: the exchange with the server failed") as caught:
            Sender(f"http://127.0.0.1:{port}", 0.3).get(f"http://127.0.0.1:{port}/", "place", 1 << 20)
        done.set()
    assert caught.value.transient


@pytest.mark.parametrize("length", [True, False])
def test_an_answer_without_an_end_is_not_kept(length: bool) -> None:  # noqa: FBT001
    head = b"Content-Length: 1073741824\r\n" if length else b""

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while True:
            connection.sendall(bytes(1 << 16))

    with (
        raw_server(answer) as port,
        pytest.raises(RepositoryNotReadable, match="the exchange with the server failed"),
    ):
        Sender(f"http://127.0.0.1:{port}", 30).get(f"http://127.0.0.1:{port}/", "place", 1 << 20)


def test_a_server_that_is_not_there_is_transient(answering_server: Answering) -> None:
    endpoint = "http://127.0.0.1:1"
    with pytest.raises(RepositoryNotReadable) as caught:
        Sender(endpoint, 5).get(f"{endpoint}/?X-Amz-Signature=secret", "place", 10)
    assert caught.value.transient
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert answering_server.asked == []


def test_no_cache_is_to_answer(answering_server: Answering) -> None:
    """A list must show what was written a moment ago."""
    Sender(answering_server.endpoint, 5).get(f"{answering_server.endpoint}/", "place", 10)
    (asked,) = answering_server.asked
    assert asked.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "HTTP/1.1 200 OK\r\nno header\r\n"])
def test_no_signature_is_logged(caplog: pytest.LogCaptureFixture, head: str) -> None:
    """Who has a signed URL may send it for 20 minutes."""
    caplog.set_level(logging.DEBUG)

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(f"{head}Connection: close\r\n\r\nok".encode())

    with raw_server(answer) as port:
        url = f"http://127.0.0.1:{port}/?X-Amz-Credential=one&X-Amz-Security-Token=two&X-Amz-Signature=three"
        assert Sender(url, 5).get(url, "place", 10) == b"ok"
    assert caplog.records
    assert "X-Amz" not in caplog.text


def test_the_certificates_are_those_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library takes the same variable."""
    other = tmp_path / "other"
    other.mkdir()
    certificate_of(other)
    context = certificate_of(tmp_path)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with raw_server(one_answer, context) as port:
        url = f"https://127.0.0.1:{port}/"
        for name, value in {**settings(url), "SSL_CERT_FILE": str(other / "certificate.pem")}.items():
            monkeypatch.setenv(name, value)
        senders: list[Callable[[], bytes]] = [
            lambda: Sender(url, 5).get(url, "place", 10),
            lambda: open_store("s3://bucket/a").get(CONFIG),
        ]
        for ask in senders:
            with pytest.raises(RepositoryNotReadable, match="the server's certificate is not trusted") as caught:
                ask()
            assert "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert Sender(url, 5).get(url, "place", 10) == b"ok"


def test_a_machine_without_certificates_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library does not begin without one, whether it needs it or not; its error was a page of a program's inside."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    for name, value in {**settings("https://127.0.0.1:1"), "SSL_CERT_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="no certificates of authorities") as caught:
        open_store("s3://bucket/a")
    assert "SSL_CERT_FILE" in caught.value.hint
    assert caught.value.__cause__ is None


def certificate_of(directory: Path) -> ssl.SSLContext:
    """Make a certificate of 127.0.0.1 that signs itself. Return what a server needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storage")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return context


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "endpoint", "proxy"),
    [
        ({}, ADDRESS, None),
        ({"HTTP_PROXY": "http://proxy:1"}, ADDRESS, "http://proxy:1"),
        ({"http_proxy": "http://proxy:1"}, ADDRESS, "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1"}, "https://s3.example", None),
        ({"HTTPS_PROXY": "http://proxy:1"}, "https://s3.example", "http://proxy:1"),
        ({"ALL_PROXY": "http://proxy:1"}, "https://s3.example", "http://proxy:1"),
        ({"ALL_PROXY": "proxy:1"}, "https://s3.example", "http://proxy:1"),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "other,s3.example"}, ADDRESS, None),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": ".example"}, ADDRESS, None),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "*"}, ADDRESS, None),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "other"}, ADDRESS, "http://proxy:1"),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "name, 10.0.0.0/8"}, "http://10.1.2.3:9000", None),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3:9000", "http://proxy:1"),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "fd00::/8"}, "http://[fd00::1]:9000", None),
    ],
)
def test_the_proxy_is_the_environments(
    environment: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxy_of(endpoint) == proxy


def test_a_proxy_is_asked_with_its_password(environment: pytest.MonkeyPatch, answering_server: Answering) -> None:
    environment.setenv("HTTP_PROXY", answering_server.endpoint.replace("://", "://user:pass%40word@"))
    answering_server.answer = lambda _: Reply(200, "ok")
    assert Sender(ADDRESS, 5).get(f"{ADDRESS}?list-type=2", "place", 10) == b"ok"
    (asked,) = answering_server.asked
    assert asked.path == f"{ADDRESS}?list-type=2"
    assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwYXNzQHdvcmQ="


def test_a_proxy_of_another_kind_is_refused_without_its_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTP_PROXY", "socks5://user:secret@proxy:1")
    with pytest.raises(SettingsError, match=r"The proxy for s3\.example cannot be used") as caught:
        Sender(ADDRESS, 5)
    assert "secret" not in f"{caught.value}{caught.value.hint}"

"""A plain `rediss://` reaches a server whose certificate is trusted, and no other, by every way to Redis (case S3)."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import kombu.exceptions
import pytest
import redis

from freezeframe import bus, redis_address
from freezeframe.settings import BusSettings

from . import certificate

pytestmark = pytest.mark.case("S3")


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """A Redis that speaks TLS only, with a certificate that it signed itself."""
    made = certificate.make(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["redis-server", "--port", "0", "--tls-port", str(port), "--save", "", *made.of_server()]
    command += ["--bind", "127.0.0.1", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield port
        finally:
            server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    pytest.fail("this redis-server speaks no TLS")


def ways(url: str) -> list[str]:
    """By which ways Redis answers: our own client, Celery's backend, Celery's broker."""
    settings = BusSettings.model_validate({"redis_url": url})
    app = bus.celery_app("host.a", settings)
    found = []
    with closing(bus.connect(settings, retries=0)) as client:
        try:
            client.ping()
            found.append("client")
        except redis.ConnectionError:
            pass
    try:
        app.backend.client.ping()
        found.append("backend")
    except redis.ConnectionError:
        pass
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
            found.append("broker")
        except kombu.exceptions.OperationalError:
            pass
    app.backend.client.close()
    return found


def test_a_trusted_certificate_is_accepted_by_all(tls_port: int, tmp_path: Path) -> None:
    assert ways(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={tmp_path / 'cert'}") == ["client", "backend", "broker"]


def test_another_certificate_is_refused_by_all(tls_port: int) -> None:
    assert ways(f"rediss://127.0.0.1:{tls_port}/0") == []


def test_verification_can_be_turned_off_for_all(tls_port: int) -> None:
    assert ways(f"rediss://127.0.0.1:{tls_port}/0?ssl_cert_reqs=none") == ["client", "backend", "broker"]


def test_a_password_turns_no_verification_off(tls_port: int) -> None:
    assert ways(f"rediss://:ssl_cert_reqs=none@127.0.0.1:{tls_port}/0") == []


def test_all_understand_all_options(tls_port: int, tmp_path: Path) -> None:
    options = {
        "ssl_ca_certs": tmp_path / "cert",
        "ssl_ca_path": tmp_path,
        "ssl_cert_reqs": "required",
        "ssl_certfile": tmp_path / "cert",
        "ssl_check_hostname": "true",
        "ssl_ciphers": "DEFAULT",
        "ssl_keyfile": tmp_path / "key",
        "ssl_password": "a%20b",
    }
    assert options.keys() == redis_address._TLS.keys()
    query = "&".join(f"{name}={value}" for name, value in options.items())
    assert ways(f"rediss://127.0.0.1:{tls_port}/0?{query}") == ["client", "backend", "broker"]

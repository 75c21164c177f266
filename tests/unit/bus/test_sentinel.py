"""Redis behind sentinels: every way to it finds the primary, and finds it again after a failover (case S3)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from freezeframe import bus, redis_pool, sentinel
from freezeframe.barrier.gate import Gate, gate_client
from freezeframe.settings import BusSettings, SettingsError, load

from . import certificate, probe
from .sentinels import NAME, PASSWORD, Site, free_port, site, until

pytestmark = [pytest.mark.case("S3"), pytest.mark.timeout(120)]


@pytest.fixture(params=["plain", "tls"])
def servers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """All of them, in plain text or with TLS and a certificate that signed itself."""
    trusted = certificate.make(tmp_path) if request.param == "tls" else None
    with site(tmp_path, trusted) as made:
        yield made


def settings_of(url: str) -> BusSettings:
    return BusSettings.model_validate({"redis_url": url, "redis_timeout_s": 2})


def port_of(client: redis.Redis) -> int:
    return int(client.info("server")["tcp_port"])


def test_every_way_leads_to_the_primary(servers: Site) -> None:
    settings = settings_of(servers.url())
    app = bus.celery_app("host.a", settings)
    with closing(bus.connect(settings)) as client, closing(gate_client(settings)) as gate:
        assert {port_of(client), port_of(gate), port_of(app.backend.client)} == {servers.primary()}
    with app.connection_for_write() as connection:
        assert port_of(connection.default_channel.client) == servers.primary()
        waits = connection.default_channel._create_client(asynchronous=True)
        assert port_of(waits) == servers.primary()
        assert PASSWORD not in connection.as_uri()
    assert PASSWORD not in repr(app.conf.broker_transport_options)


def test_a_sentinel_that_is_down_is_passed_over(servers: Site) -> None:
    with closing(bus.connect(settings_of(servers.url(free_port(), free_port())))) as client:
        assert port_of(client) == servers.primary()


@pytest.mark.parametrize("how", ["fail_over", "kill_primary"])
def test_clients_and_gates_go_on_with_the_new_primary(servers: Site, how: str) -> None:
    settings = settings_of(servers.url())
    with closing(bus.connect(settings)) as client, closing(gate_client(settings)) as connection:
        gate = Gate(connection, "01KAAAAAAAAAAAAAAAAAAAAAAA", 1, "muster", "a", 2)
        assert gate.arrive() == "open"
        client.set("before", 1)
        primary = getattr(servers, how)()

        def writes() -> bool:
            client.set("after", 1)
            return True

        until(writes)
        assert port_of(client) == primary
        gate.meet(time.monotonic() + 30) if _other_arrives(settings) else pytest.fail("unreachable")
        assert servers.ask(primary, "GET", "after") == "1"


def _other_arrives(settings: BusSettings) -> bool:
    """Have the other member arrive in a while, in a thread."""

    def arrive() -> None:
        with closing(gate_client(settings)) as connection:
            Gate(connection, "01KAAAAAAAAAAAAAAAAAAAAAAA", 1, "muster", "b", 2).meet(time.monotonic() + 30)

    threading.Thread(target=arrive, daemon=True).start()
    return True


def test_who_waits_at_a_gate_is_released_by_the_new_primary(servers: Site) -> None:
    """The old one ends the wait when it is made a replica (UNBLOCKED), or with its connection."""
    settings = settings_of(servers.url())
    met: list[float] = []

    def meet() -> None:
        with closing(gate_client(settings)) as connection:
            Gate(connection, "01KAAAAAAAAAAAAAAAAAAAAAAA", 1, "muster", "a", 2).meet(time.monotonic() + 60)
        met.append(time.monotonic())

    waits = threading.Thread(target=meet)
    waits.start()
    with closing(gate_client(settings)) as looks:
        until(lambda: Gate(looks, "01KAAAAAAAAAAAAAAAAAAAAAAA", 1, "muster", "b", 2).look().so_far == 1)
    servers.fail_over()
    assert met == []
    assert _other_arrives(settings)
    waits.join()
    assert len(met) == 1


@contextmanager
def worker(servers: Site, pool: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {**os.environ, "FREEZEFRAME_REDIS_URL": servers.url(), "FREEZEFRAME_REDIS_TIMEOUT_S": "2"}
    with subprocess.Popen([sys.executable, "-m", "tests.unit.bus.probe", pool], env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(servers: Site, key: str) -> None:
    app = bus.celery_app("orchestrator", settings_of(servers.url()))
    with app.connection_for_write() as connection:
        app.send_task(probe.TASK, args=[key], queue=probe.QUEUE, connection=connection)


@pytest.mark.parametrize(
    ("how", "pool"), [("fail_over", "threads"), ("kill_primary", "threads"), ("fail_over", "prefork")]
)
def test_a_worker_has_its_orders_from_the_new_primary(servers: Site, how: str, pool: str) -> None:
    with worker(servers, pool) as process:
        ask(servers, "before")
        until(lambda: servers.ask(servers.primary(), "GET", "before") == "done")
        primary = getattr(servers, how)()
        until(lambda: _sent(servers, "after"))
        until(lambda: servers.ask(primary, "GET", "after") == "done")
        assert process.poll() is None


def _sent(servers: Site, key: str) -> bool:
    ask(servers, key)
    return True


def test_every_connection_with_tls_is_one(tmp_path: Path) -> None:
    """None is plain text, and none is to a server whose certificate is not trusted: neither sentinel nor primary."""
    with site(tmp_path, certificate.make(tmp_path)) as servers:
        url = servers.url()
        app = bus.celery_app("host.a", settings_of(url))
        with closing(bus.connect(settings_of(url))) as client, closing(gate_client(settings_of(url))) as gate:
            pools = [one.connection_pool for one in (client, gate, app.backend.client)]
            with app.connection_for_write() as connection:
                channel = connection.default_channel
                pools += [one.connection_pool for one in (channel.client, channel._create_client(asynchronous=True))]
            assert all(issubclass(pool.connection_class, sentinel.PrimaryTlsConnection) for pool in pools)
        for wrong in (url.replace("rediss+", "redis+").partition("&")[0], url.partition("&ssl_ca_certs")[0]):
            with closing(bus.connect(settings_of(wrong), retries=0)) as client, pytest.raises(sentinel.NoPrimaryError):
                client.ping()
        primary = sentinel.Primary.parse(url)
        distrusted = replace(primary, options={**primary.options, "ssl_ca_certs": None})
        options = {**distrusted.options, "primary": distrusted, "socket_connect_timeout": 2, "retry": None}
        pool = redis.ConnectionPool(connection_class=sentinel.PrimaryTlsConnection, **options)
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            redis.Redis(connection_pool=pool).ping()


def test_a_name_that_no_sentinel_knows_is_told_with_all_that_were_asked(servers: Site) -> None:
    down = free_port()
    url = servers.url(down).replace(f"/{NAME}/", "/other/")
    with (
        closing(bus.connect(settings_of(url), retries=0)) as client,
        pytest.raises(sentinel.NoPrimaryError, match="where Redis other is") as told,
    ):
        client.ping()
    assert f"127.0.0.1:{down}" in str(told.value)
    assert f"127.0.0.1:{servers.sentinel}: No such master" in str(told.value)
    assert PASSWORD not in str(told.value)


def test_a_sentinel_that_refuses_the_password_is_told(servers: Site) -> None:
    url = servers.url().replace(f"sentinel_password={PASSWORD}", "sentinel_password=wrong")
    with closing(bus.connect(settings_of(url), retries=0)) as client, pytest.raises(sentinel.NoPrimaryError) as told:
        client.ping()
    assert "invalid" in str(told.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://a:26379", "no name of a primary"),
        ("redis+sentinel://a:26379/", "no name of a primary"),
        ("redis+sentinel://a:26379/m/zero", "no name of a primary"),
        ("redis+sentinel:///mymaster", "no host and port"),
        ("redis+sentinel://a:0/mymaster", "no host and port"),
        ("redis+sentinel://a:26379,/mymaster", "no host and port"),
        ("redis+sentinel://a:26379,b:port/mymaster", "no host and port"),
        ("sentinel://a:26379/mymaster", "must begin with"),
        ("redis+cluster://a:26379", "must begin with"),
    ],
)
def test_an_address_that_names_no_primary_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, why: str) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", url.replace("://", f"://user:{PASSWORD}@"))
    with pytest.raises(SettingsError, match=why) as refused:
        load(BusSettings)
    assert PASSWORD not in str(refused.value)


def test_what_an_address_says(tmp_path: Path) -> None:
    trusted = certificate.make(tmp_path).cert
    url = f"rediss+sentinel://user:p%40ss@a,b:7,[::1]:8/my%20one/3?ssl_ca_certs={trusted}"
    url += "&sentinel_username=s&sentinel_password=x"
    found = sentinel.Primary.parse(url)
    assert (found.name, found.sentinels) == ("my one", (("a", sentinel.PORT), ("b", 7), ("::1", 8)))
    assert found.options == {"username": "user", "password": "p@ss", "db": 3, "ssl_ca_certs": str(trusted)}
    assert found.sentinel_options == {"ssl": True, "ssl_ca_certs": str(trusted), "username": "s", "password": "x"}
    assert found.connection_class is sentinel.PrimaryTlsConnection
    for secret in ("p@ss", "p%40ss", "x'"):
        assert secret not in repr(found)
    assert redis_pool.options_of(settings_of(url))["primary"] == found


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
def test_an_address_that_urllib_refuses_tells_no_password(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Its own error names the whole of it."""
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", f"{scheme}://:{PASSWORD}\uff0f@h:6379/m")
    with pytest.raises(SettingsError, match="cannot be read as an address") as refused:
        load(BusSettings)
    assert PASSWORD not in str(refused.value)
    assert refused.value.__cause__ is None or PASSWORD not in str(refused.value.message)


@pytest.mark.parametrize("odd", [{"is_master": False}, {"is_sdown": True}, {"is_odown": True}])
def test_a_primary_that_is_down_is_none(odd: dict[str, bool]) -> None:
    state = {"is_master": True, "is_sdown": False, "is_odown": False, "ip": "127.0.0.1", "port": 7}
    assert sentinel._up(state) == ("127.0.0.1", 7)
    with pytest.raises(sentinel.NoPrimaryError):
        sentinel._up(state | odd)


def test_sentinels_that_hang_have_one_time_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate has a second for a connection, with guests held."""
    with ExitStack() as stack:
        deaf = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        ports = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in deaf)
        asked: list[float] = []

        class Client(redis.Redis):
            def __init__(self, **options: Any) -> None:
                asked.append(options["socket_timeout"])
                assert options["socket_timeout"] == options["socket_connect_timeout"]
                super().__init__(**options)

        monkeypatch.setattr("freezeframe.sentinel.redis.Redis", Client)
        primary = sentinel.Primary.parse(f"redis+sentinel://{ports}/m")
        with pytest.raises(sentinel.NoPrimaryError):
            primary.find(0.2)
        assert sum(asked) == pytest.approx(0.2)

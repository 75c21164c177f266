"""The address of Redis: what is refused when the settings are read, and that all ways to Redis read it alike (case S3)."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pydantic
import pytest
import redis

from freezeframe import bus, redis_pool
from freezeframe.barrier.gate import gate_client
from freezeframe.settings import BusSettings, SettingsError, load

from .sentinels import free_port, until

pytestmark = pytest.mark.case("S3")

PASSWORD = "s3kr1t-w0rd"  # noqa: S105

OPTIONS = [
    ("redis://h?foo=1", "it has the option foo, which is not known"),
    (
        "redis://h/0?socket_timeout=abc",
        "it has the option socket_timeout; how long Redis may take is the setting redis_timeout_s",
    ),
    ("redis://h/0?socket_timeout=5", "redis_timeout_s"),
    ("redis://h/0?timeout=5", "redis_timeout_s"),
    ("redis://h?db=x", "it has the option db; the database's number is its path"),
    ("redis://h?db=1", "it has the option db; the database's number is its path"),
    ("redis://h/3?db=4", "it has the option db"),
    ("redis://h?max_connections=1", "it has the option max_connections, which is not known"),
    (f"redis://h?password={PASSWORD}", "it has the option password, which is not known"),
    ("redis://h?ssl_cert_reqs=none", "it has the option ssl_cert_reqs, which needs rediss://"),
    ("redis://h?sentinel_password=x", "it has the option sentinel_password, which needs redis+sentinel://"),
    ("redis://h?", None),
    ("rediss://h?foo=1", "it has the option foo, which is not known"),
    ("rediss://h?ssl_foo=1", "it has the option ssl_foo, which is not known"),
    ("rediss://h?ssl_cert_reqs=maybe", "its option ssl_cert_reqs must be one of required, optional, none"),
    ("rediss://h?ssl_cert_reqs=NONE", "its option ssl_cert_reqs must be one of"),
    ("rediss://h?ssl_cert_reqs=", "its option ssl_cert_reqs has no value"),
    ("rediss://h?ssl_cert_reqs", "its option ssl_cert_reqs has no value"),
    ("rediss://h?ssl_cert_reqs=none&ssl_cert_reqs=required", "it has the option ssl_cert_reqs twice"),
    ("rediss://h?ssl_check_hostname=no", "its option ssl_check_hostname must be one of true, false"),
    ("rediss://h?ssl_ca_certs=ca.pem", "its option ssl_ca_certs is no absolute path of a file"),
    ("rediss://h?ssl_ca_certs=/none/ca.pem", "its option ssl_ca_certs names no file that can be read"),
    ("rediss://h?ssl_ca_certs=/tmp", "its option ssl_ca_certs names no file that can be read"),
    ("rediss://h?ssl_ca_path=/none", "its option ssl_ca_path is no absolute path of a directory"),
    ("rediss://h?ssl_certfile=c", "its option ssl_certfile is no absolute path"),
    ("rediss://h?ssl_keyfile=k", "its option ssl_keyfile is no absolute path"),
    ("unix:///run/s?db=x", "its option db is no database's number"),
    ("unix:///run/s?db=-1", "its option db is no database's number"),
    ("unix:///run/s?db=\u0663", "its option db is no database's number"),
    ("unix:///run/s?foo=1", "it has the option foo, which is not known"),
    ("unix:///run/s?virtual_host=1", "it has the option virtual_host, which is not known"),
    ("redis+sentinel://h/m?foo=1", "it has the option foo, which is not known"),
    ("redis+sentinel://h/m?db=1", "it has the option db"),
    ("redis+sentinel://h/m?ssl_ca_certs=/ca", "it has the option ssl_ca_certs, which needs rediss+sentinel://"),
    ("rediss+sentinel://h/m?ssl_ca_certs=/none/ca.pem", "its option ssl_ca_certs names no file that can be read"),
    ("redis+sentinel://h/m?sentinel_password=", "its option sentinel_password has no value"),
    ("redis+sentinel://h/m?service_name=m", "it has the option service_name, which is not known"),
]

PLACES = [
    ("redis://h/\u0663", "its path is no database's number"),
    ("redis://h/%30", "its path is no database's number"),
    ("redis://h//0", "its path is no database's number"),
    ("redis://h/0/", "its path is no database's number"),
    ("redis://h/1/2", "its path is no database's number"),
    ("redis://h/-1", "its path is no database's number"),
    ("redis://a,b:6379/0", "it names no host and port"),
    ("redis://my host/0", "it names no host and port"),
    ("redis://my%20host/0", "it names no host and port"),
    ("redis://::1:6379/0", "it names no host and port"),
    ("redis://[::1:6379/0", "it cannot be read as an address"),
    ("redis://[::g]:6379/0", "it cannot be read as an address"),
    ("redis://h:6379:1/0", "it names no host and port"),
    ("redis:h", "it has no scheme"),
    ("redis:/h", "it has no scheme"),
    ("://h", "it has no scheme"),
    (f"{PASSWORD}@x://h", "it has no scheme"),
    ("redis://h\n.example.org/0", "it has a control character"),
    ("redis://h\t/0", "it has a control character"),
    ("redis://h/0#x", "it has a #"),
    ("unix://run/redis.sock", "it names no socket"),
    ("unix:///", "it names no socket"),
    ("redis+sentinel://h:26379/0", "its path is no name of a primary"),
    ("redis+sentinel://h/?service_name=m", "its path is no name of a primary"),
    ("redis+sentinel://my%20host/m", "it names no host and port of a sentinel"),
    ("redis+sentinel://h/m/\u0663", "its path is no name of a primary"),
    ("redis+sentinel://::1:26379/m", "it names no host and port of a sentinel"),
    ("Redis+Cluster://h", "it begins with redis+cluster://"),
]

#: A password with a character that would have to be quoted.
UNQUOTED = [
    (f"redis://u:1?{PASSWORD}@h:6379/0", "it has a ? and no options after it"),
    (f"redis://u?{PASSWORD}=x@h:6379/0", "it has a ? and no options after it"),
    (f"redis://u#{PASSWORD}@h:6379/0", "it has a #, which is written %23"),
    (f"redis://u/{PASSWORD}@h:6379/0", "its path is no database's number"),
    (f"redis://u:{PASSWORD}@x@h,:6379/0", "it names no host and port"),
    (f"redis+sentinel://u?{PASSWORD}@h:26379/m", "its path is no name of a primary"),
    (f"unix://u:{PASSWORD}?x@/run/s", "it names no socket"),
    (f"rediss://h?ssl_password={PASSWORD}&ssl_keyfile={PASSWORD}", "its option ssl_keyfile is no absolute path"),
]


@pytest.mark.parametrize(("url", "said"), [*OPTIONS, *PLACES, *UNQUOTED])
def test_a_wrong_address_is_refused_by_its_setting_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, said: str | None
) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", url)
    if said is None:
        load(BusSettings)
        return
    with pytest.raises(SettingsError) as refused:
        load(BusSettings)
    assert str(refused.value.message).startswith("The setting redis_url cannot be used: it")
    assert said in str(refused.value)
    told = f"{refused.value} {refused.value.__cause__} {refused.value.__cause__!r}"
    assert PASSWORD not in told


def test_no_error_of_a_setting_tells_its_value() -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        BusSettings.model_validate({"redis_url": f"redis://:{PASSWORD}@h?foo=1"})
    assert PASSWORD not in f"{refused.value} {refused.value!r}"


@pytest.mark.parametrize(
    ("url", "read"),
    [
        (" redis://h/0", "redis://h/0"),
        ("redis://h/0\n", "redis://h/0"),
        ("Redis://h", "redis://h"),
        ("REDISS://H:1/2", "rediss://H:1/2"),
        ("UNIX:///run/S", "unix:///run/S"),
        ("Redis+Sentinel://a,b/M", "redis+sentinel://a,b/M"),
        ("redis://:p%40s%2Fs@h_1:1/15", None),
        ("redis://:a b@h", None),
        ("redis://[::1]:6379/1", None),
        ("redis://[fe80::1%25eth0]/1", None),
        ("redis://h:/1", None),
        ("unix://u:p@/run/my redis.sock?db=1", None),
        ("rediss://h?ssl_check_hostname=false&ssl_cert_reqs=optional&ssl_ciphers=x&ssl_ca_path=/tmp", None),
        ("redis+sentinel://[::1]:1,b/my%2Fone/3?sentinel_username=a&sentinel_password=b", None),
    ],
)
def test_a_right_address_is_taken_as_all_read_it(monkeypatch: pytest.MonkeyPatch, url: str, read: str | None) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", url)
    settings = load(BusSettings)
    assert settings.redis_url.get_secret_value() == (url if read is None else read)
    redis_pool.make(settings).make_connection()  # type: ignore[no-untyped-call]
    bus.celery_app("host.a", settings).backend  # noqa: B018


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A Redis at a port of IPv4 and, where there is IPv6, of that; and at a socket."""
    port, path = free_port(), tmp_path / "s"
    places = ["127.0.0.1", "-::1"]  # "-": it may be missing
    words = ["redis-server", "--port", str(port), "--bind", *places, "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen([*words, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: bool(redis.Redis(unix_socket_path=str(path)).ping()))
            yield port, path
        finally:
            process.kill()


def databases(url: str) -> set[int]:
    """Return the databases that the ways to Redis lead to."""
    settings = BusSettings.model_validate({"redis_url": url})
    app = bus.celery_app("host.a", settings)
    found = set()
    with closing(bus.connect(settings)) as client, closing(gate_client(settings)) as gate:
        found |= {int(one.client_info()["db"]) for one in (client, gate, app.backend.client)}
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        for one in (channel.client, channel._create_client(asynchronous=True)):
            found.add(int(one.client_info()["db"]))
    return found


def test_all_ways_lead_to_one_database(server: tuple[int, Path]) -> None:
    """Else orders would wait in one, and workers in another."""
    port, path = server
    assert databases(f"redis://127.0.0.1:{port}/3") == {3}
    assert databases(f"REDIS://127.0.0.1:{port}") == {0}
    assert databases(f"unix://{path}") == {0}
    assert databases(f"unix://{path}?db=5") == {5}


def test_an_ipv6_address_leads_there_by_all_ways(server: tuple[int, Path]) -> None:
    port, _ = server
    try:
        socket.create_connection(("::1", port)).close()
    except OSError:
        url = f"redis://[::1]:{port}/3"  # this machine has no IPv6: at least all name the same host
        settings = BusSettings.model_validate({"redis_url": url})
        channel = bus.celery_app("host.a", settings).connection_for_write()
        assert redis_pool.options_of(settings)["host"] == channel.hostname == "::1"
    else:
        assert databases(f"redis://[::1]:{port}/3") == {3}

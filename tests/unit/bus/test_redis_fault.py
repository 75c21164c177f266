"""Trouble with Redis is told in Redis's words, with what to do: refusals as a real server makes them (case S3)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from freezeframe import bus, redis_fault
from freezeframe.barrier import Gate, GateUnreachableError, await_clock, gate_client
from freezeframe.barrier import gate as gate_module
from freezeframe.client import Client, UnreachableError
from freezeframe.contract.request import CaptureRequest
from freezeframe.settings import BusSettings

from .refusing import WAYS, Refusing, refusing_redis

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
#: A word of Redis's own, and a word of the advice.
TOLD = {
    "MISCONF": ("MISCONF", "free space"),
    "OOM": ("maxmemory", "raise its `maxmemory`"),
    "READONLY": ("read only replica", "name the primary"),
    "NOPERM": ("has no permissions", "lacks a right"),
    "NOAUTH": ("uthentication", "password in FREEZEFRAME_REDIS_URL"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Refusing]:
    with refusing_redis(tmp_path) as found:
        yield found


def settings_of(server: Refusing) -> BusSettings:
    return BusSettings.model_validate({"redis_url": server.url})


@pytest.mark.case("S3")
@pytest.mark.parametrize("how", WAYS)
def test_asking_for_a_capture_tells_what_redis_said(server: Refusing, how: str) -> None:
    request = CaptureRequest(capture_id=CAPTURE, every_guest=True)
    client = Client(settings_of(server))
    said, advice = TOLD[how]
    with server.refusing(how), pytest.raises(UnreachableError) as caught:
        client.ask(request)
    assert caught.value.message.startswith("Redis refuses: ")
    assert said in caught.value.message
    assert advice in caught.value.hint
    Client(settings_of(server)).ask(request)


@pytest.mark.case("S3")
@pytest.mark.parametrize("how", ["MISCONF", "OOM", "READONLY"])
def test_a_gate_waits_for_a_redis_that_refuses_for_a_while(
    server: Refusing, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = gate_client(settings_of(server))
    gate = Gate(client, CAPTURE, 1, "held", "a", 1)
    refused: list[redis.RedisError] = []
    pause = gate_module.pause_after

    def pause_after(error: redis.RedisError) -> redis.RedisError:
        refused.append(error)
        return pause(error)

    clock = SimpleNamespace(monotonic=lambda: 60.0 if len(refused) > 1 else 0.0, sleep=time.sleep)
    with monkeypatch.context() as patch:
        patch.setattr(gate_module, "pause_after", pause_after)
        patch.setattr(gate_module, "time", clock)
        with server.refusing(how), pytest.raises(GateUnreachableError) as caught:
            gate.meet(30.0)
    assert len(refused) == 2
    assert caught.value.fault is not None
    assert TOLD[how][0] in str(caught.value)
    gate.meet(time.monotonic() + 20)
    assert gate.look().state == "released"


@pytest.mark.case("S3")
def test_a_gate_does_not_wait_for_a_right_that_it_lacks(server: Refusing) -> None:
    client = gate_client(settings_of(server))
    gate = Gate(client, CAPTURE, 1, "held", "a", 1)
    with server.refusing("NOPERM"), pytest.raises(GateUnreachableError, match="can't run this command"):
        gate.meet(time.monotonic() + 86400)


@pytest.mark.case("S3")
def test_the_clock_is_waited_for_and_a_missing_right_is_not(server: Refusing) -> None:
    client = gate_client(settings_of(server))
    server.forbid("time")
    with pytest.raises(GateUnreachableError, match="no permissions"):
        await_clock(client, time.monotonic() + 86400)


def test_a_redis_that_is_away_is_not_one_that_refuses() -> None:
    error = redis.ConnectionError("Connection refused")
    assert redis_fault.words_of(error) == "Redis does not answer: Connection refused."
    assert "freezeframe up" in redis_fault.advice_for(error)


def test_a_refusal_nobody_knows_is_told_all_the_same() -> None:
    error = redis.ResponseError("WHATEVER of a later version.")
    assert redis_fault.words_of(error) == "Redis refuses: WHATEVER of a later version."
    assert redis_fault.advice_for(error)


@pytest.mark.case("S3")
@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("rediss://h:1/0", "rediss://h:1/0?ssl_cert_reqs=required"),
        ("rediss://h:1/0?ssl_ciphers=x", "rediss://h:1/0?ssl_ciphers=x&ssl_cert_reqs=required"),
        ("rediss://h:1/0?ssl_cert_reqs=none", "rediss://h:1/0?ssl_cert_reqs=none"),
        ("redis://h:1/0", "redis://h:1/0"),
    ],
)
def test_tls_verifies_the_server_unless_told_not_to(url: str, verified: str) -> None:
    app = bus.celery_app("host.a", BusSettings.model_validate({"redis_url": url}))
    assert app.conf.broker_url == verified
    wanted = ssl.CERT_NONE if "none" in verified else ssl.CERT_REQUIRED
    if url.startswith("rediss"):
        assert app.backend.connparams["ssl_cert_reqs"] == wanted
        assert app.connection_for_write().ssl["ssl_cert_reqs"] == wanted

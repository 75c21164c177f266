"""`freezeframe capture` against a fake orchestrator on a real Redis."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from freezeframe.client import PICK_UP_S, AnyEvent, Client, NewerEventsError
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent, WarningEvent
from freezeframe.contract.fault import Fault
from freezeframe.contract.plan import LeftOutGuest
from freezeframe.contract.request import CaptureRequest, SkippedGuestDisk
from freezeframe.contract.words import HoldKind, Policy, RunState, WantedKind
from freezeframe.errors import FreezeframeError
from freezeframe.settings import BusSettings

from .orchestra import NOW, Told, end, orchestra, progress, state
from .run import Run

SILENT = Fault(code="agent", message="No answer.", advice="Start it.", exit_code=6, guest="db1", host="a", disk="vda")


def well(request: CaptureRequest) -> list[Told]:
    return [
        state(request, RunState.PREPARING),
        state(request, RunState.HOLDING),
        state(request, RunState.TRANSFERRING),
        progress(request, 1000),
        '{"type": "of a later version"}',
        progress(request, 1 << 20),
        end(request, RunState.DONE),
    ]


def test_a_capture_that_is_done(run: Run, bus: BusSettings) -> None:
    with orchestra(bus, well):
        ran = run("capture", "db1")
    assert ran.exit_code == 0
    assert "db1" in ran.stdout
    assert "83 ms" in ran.stdout
    assert "5.0 MiB" in ran.stdout
    assert [line.split(":")[0] for line in ran.stderr.splitlines()][1:] == [
        "preparing",
        "holding",
        "transferring",
        "done",
    ]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_trouble_that_a_run_waits_out_is_told_while_it_waits(
    run: Run, bus: BusSettings, options: tuple[str, ...]
) -> None:
    """Its words come from a file system or a server: nothing in them steers a terminal."""

    def waits(request: CaptureRequest) -> list[Told]:
        text = "The manifest could not be written to the repository at /srv/[x]: No\x1b[2J space."
        warning = WarningEvent(capture_id=request.capture_id, at=NOW, text=text)
        return [state(request, RunState.SEALING), warning, end(request, RunState.DONE, warnings=(text,))]

    with orchestra(bus, waits):
        ran = run("capture", "db1", *options)
    assert ran.exit_code == 0
    lines = ran.stderr.splitlines()
    [told] = [line for line in lines[: lines.index("done")] if line.startswith("warning: ")]
    assert "to the repository at /srv/[x]: No" in told
    assert "\x1b" not in told
    if options:
        assert "No\x1b[2J space." in ran.document["warnings"][0]


def test_what_was_asked_is_what_is_on_the_queue(run: Run, bus: BusSettings) -> None:
    wanted = ["db1", "web@host-b", "--group", "shop", "--tag", "a", "--tag", "b", "--hold", "pause"]
    wanted += [
        "--policy",
        "degrade",
        "--full",
        "--hold-timeout",
        "3",
        "--muster-timeout",
        "4",
        "--decrypt-disk",
        "db1:vdc",
        "--skip-disk",
        "db1:vdb",
    ]
    with orchestra(bus, well) as taken:
        assert run("capture", *wanted).exit_code == 0
    message = taken.get_nowait()
    request: CaptureRequest = message["request"]
    assert message["task"] == names.INTAKE_TASK
    assert message["expires"] is None  # Celery would drop it by this machine's clock, without a word
    assert abs(message["not_after_us"] / 1e6 - time.time() - PICK_UP_S) < 60
    assert (request.guests, request.group, request.tags) == (("db1", "web@host-b"), "shop", ("a", "b"))
    assert (request.hold, request.policy, request.kind) == (HoldKind.PAUSE, Policy.DEGRADE, WantedKind.FULL)
    assert (request.hold_timeout_s, request.muster_timeout_s) == (3.0, 4.0)
    assert [str(disk) for disk in request.skip_disks] == ["db1:vdb"]
    assert [str(disk) for disk in request.decrypt_disks] == ["db1:vdc"]


def test_a_guest_may_have_a_hold_and_mount_points_of_its_own(run: Run, bus: BusSettings) -> None:
    own = ["--guest-hold", "db1:freeze-pause", "--guest-hold", "old:pause"]
    own += ["--mountpoint", "db1:/var/lib/mysql", "--mountpoint", "db1:/srv", "--mountpoint", "win:C:\\"]
    with orchestra(bus, well) as taken:
        assert run("capture", "db1", "old", "win", *own).exit_code == 0
    request: CaptureRequest = taken.get_nowait()["request"]
    assert {one.guest: (one.kind, one.mountpoints) for one in request.guest_holds} == {
        "db1": (HoldKind.FREEZE_PAUSE, ("/var/lib/mysql", "/srv")),
        "old": (HoldKind.PAUSE, ()),
        "win": (None, ("C:\\",)),
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--guest-hold", "db1:sleep"], "GUEST:KIND"),
        (["--guest-hold", "db1"], "GUEST:KIND"),
        (["--mountpoint", "db1:srv"], "GUEST:PATH"),
        (["--guest-hold", "db1:pause", "--guest-hold", "db1:none"], "two holds"),
        (["--guest-hold", "db1:pause", "--mountpoint", "db1:/srv"], "freezes none"),
    ],
)
def test_a_hold_that_makes_no_sense_is_refused_before_anything_is_asked(
    run: Run, bus: BusSettings, wrong: list[str], says: str
) -> None:
    ran = run("capture", "db1", *wrong)
    assert ran.exit_code == 2
    assert says in " ".join(ran.stderr.replace("│", " ").split())


def test_json_is_all_there_is_on_stdout(run: Run, bus: BusSettings) -> None:
    with orchestra(bus, well):
        ran = run("capture", "--all", "--json")
    assert ran.exit_code == 0
    assert ran.document["state"] == "done"
    assert ran.document["guests"][0]["hold_ms"] == 83.4
    assert ran.document["exit_code"] == 0


def test_a_failed_capture_ends_with_its_first_faults_exit_code(run: Run, bus: BusSettings) -> None:
    with orchestra(bus, lambda request: [end(request, RunState.FAILED, SILENT)]):
        ran = run("capture", "db1")
    assert ran.exit_code == 6
    assert "guest db1, disk vda, host a: No answer." in ran.stderr
    assert "Start it." in ran.stderr
    assert "nothing was kept" in ran.stdout


def test_a_failed_capture_in_json_has_its_error(run: Run, bus: BusSettings) -> None:
    with orchestra(bus, lambda request: [end(request, RunState.FAILED, SILENT)]):
        ran = run("capture", "db1", "--json")
    assert ran.exit_code == 6
    assert ran.document["error"]["code"] == "agent"


def test_less_than_asked_for_is_10(run: Run, bus: BusSettings) -> None:
    with orchestra(bus, lambda request: [end(request, RunState.DONE, SILENT, warnings=("a scratch file is left",))]):
        ran = run("capture", "db1", "--policy", "degrade")
    assert ran.exit_code == 10
    assert "less than was asked for" in ran.stdout
    assert "a scratch file is left" in ran.stderr


def test_skipped_disks_are_named_without_the_repository(run: Run, bus: BusSettings) -> None:
    skipped = SkippedGuestDisk(guest="db1", target="vdb", reason="it is raw, and the caller agreed")
    with orchestra(bus, lambda request: [end(request, RunState.DONE, skipped=(skipped,))]):
        ran = run("capture", "db1")
    assert "skipped: db1, disk vdb: it is raw" in ran.stderr
    with orchestra(bus, lambda request: [end(request, RunState.DONE, skipped=(skipped,))]):
        ran = run("capture", "db1", "--json")
    assert ran.document["skipped_disks"] == [skipped.model_dump()]


@pytest.mark.case("P6")
def test_guests_that_a_capture_of_all_does_without_are_named(run: Run, bus: BusSettings) -> None:
    beta = LeftOutGuest(guest="beta", host="host-a", reason="it is paused")
    with orchestra(bus, lambda request: [end(request, RunState.DONE, left_out=(beta,))]):
        ran = run("capture", "--all")
    assert ran.exit_code == 0
    assert "left out: guest beta on host host-a: it is paused" in ran.stderr
    with orchestra(bus, lambda request: [end(request, RunState.DONE, left_out=(beta,))]):
        ran = run("capture", "--all", "--json")
    assert ran.document["left_out"] == [beta.model_dump()]


def test_detached_it_returns_with_the_id(run: Run, bus: BusSettings) -> None:
    ran = run("capture", "db1", "--detach", "--json")
    assert ran.exit_code == 0
    with orchestra(bus, lambda _: []) as taken:
        assert taken.get()["request"].capture_id == ran.document["capture_id"]


def test_nobody_picks_it_up(run: Run, bus: BusSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    follow = Client.follow
    monkeypatch.setattr(Client, "follow", lambda one, capture_id: follow(one, capture_id, pick_up_s=0))
    ran = run("capture", "db1", "--json")
    assert ran.exit_code == 6
    assert ran.document["error"]["code"] == "unreachable"
    assert "has not picked up the request" in ran.stderr


def test_redis_does_not_answer(run: Run, no_bus: None) -> None:
    ran = run("capture", "db1", "--json")
    assert ran.exit_code == 6
    assert ran.document["error"]["code"] == "unreachable"
    assert "freezeframe up" in ran.stderr
    assert "secret" not in ran.stdout + ran.stderr


def test_what_was_kept_of_the_run_is_lost(run: Run, bus: BusSettings) -> None:
    """Events came, and then the run is gone: Redis was emptied. Nobody waits for ever."""
    with orchestra(bus, lambda request: [state(request, RunState.PREPARING)]):
        ran = run("capture", "db1")
    assert ran.exit_code == 1
    assert "gone from Redis" in ran.stderr


def test_ctrl_c_ends_the_waiting_and_says_so(run: Run, bus: BusSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_client: Client, _capture_id: str) -> Iterator[AnyEvent]:
        yield state(CaptureRequest(capture_id=_capture_id, every_guest=True), RunState.PREPARING)
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    ran = run("capture", "db1")
    assert ran.exit_code == 130
    assert "goes on" in ran.stderr
    assert "freezeframe captures" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["db1", "--all"],
        ["a/b"],
        ["db1", "--tag", "no spaces"],
        ["db1", "--skip-disk", "vdb"],
        ["db1", "--decrypt-disk", "vdb"],
        ["db1", "--hold", "x"],
    ],
)
def test_wrong_usage_is_2(run: Run, bus: BusSettings, arguments: list[str]) -> None:
    ran = run("capture", *arguments)
    assert ran.exit_code == 2
    assert ran.stderr


def test_following_bears_a_redis_that_is_away_for_a_moment(bus: BusSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    request = CaptureRequest(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA", guests=("db1",))
    one = Client(bus)
    broken = [redis.ConnectionError("away")]
    xread = one._redis.xread

    def flaky(*arguments: Any, **options: Any) -> Any:
        if broken:
            raise broken.pop()
        return xread(*arguments, **options)

    monkeypatch.setattr(one._redis, "xread", flaky)
    with contextlib.closing(one._redis):
        one._redis.xadd(names.events_key(request.capture_id), {"event": end(request, RunState.DONE).model_dump_json()})
        assert [event.type for event in one.follow(request.capture_id)] == ["end"]


class Following(threading.Thread):
    """Somebody who follows a run; what they were told, and what ended it."""

    def __init__(self, bus: BusSettings, capture_id: str) -> None:
        super().__init__(daemon=True)
        self.one, self.capture_id = Client(bus), capture_id
        self.told: list[str] = []
        self.ended_by: FreezeframeError | None = None

    def run(self) -> None:
        try:
            self.told.extend(event.type for event in self.one.follow(self.capture_id))
        except FreezeframeError as error:
            self.ended_by = error


def newer(event: AnyEvent) -> str:
    """As an orchestrator of a newer version tells it: with a key that this one does not know."""
    document = json.loads(event.model_dump_json())
    document.get("receipt", document)["warm"] = True
    return json.dumps(document)


@pytest.mark.case("S5")
def test_an_end_that_a_newer_orchestrator_tells_ends_the_following_and_says_what_to_do(bus: BusSettings) -> None:
    request = CaptureRequest(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAB", guests=("db1",))
    follower = Following(bus, request.capture_id)
    with contextlib.closing(follower.one._redis) as own:
        own.hset(names.run_key(request.capture_id), "record", "{}")
        own.xadd(names.events_key(request.capture_id), {"event": newer(state(request, RunState.PREPARING))})
        own.xadd(names.events_key(request.capture_id), {"event": newer(end(request, RunState.DONE))})
        follower.start()
        follower.join(30)
        assert not follower.is_alive()
    assert follower.told == []
    assert isinstance(follower.ended_by, NewerEventsError)
    assert "ended" in follower.ended_by.message
    assert "newer" in follower.ended_by.message
    assert f"freezeframe captures show {request.capture_id}" in follower.ended_by.hint


@pytest.mark.parametrize("events", ["its end is trimmed", "all are gone"])
def test_an_end_that_the_stream_does_not_keep_is_told_from_the_record(bus: BusSettings, events: str) -> None:
    """Reports of transfers that come after the end take its place. It was told as a newer version's."""
    request = CaptureRequest(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAD", guests=("db1",))
    one = Client(bus)
    receipt = end(request, RunState.DONE).receipt
    record = {
        "request": request.model_dump(mode="json"),
        "state": "done",
        "asked_at": receipt.asked_at.isoformat(),
        "receipt": receipt.model_dump(mode="json"),
    }
    with contextlib.closing(one._redis) as own:
        own.hset(names.run_key(request.capture_id), "record", json.dumps(record))
        if events == "its end is trimmed":
            key = names.events_key(request.capture_id)
            own.xadd(key, {"event": state(request, RunState.RELEASING).model_dump_json()})
        told = list(one.follow(request.capture_id, pick_up_s=0))
    assert [event.type for event in told][-1] == "end"
    [found] = [event.receipt for event in told if isinstance(event, EndEvent)]
    assert found == receipt


@pytest.mark.case("S5")
def test_an_event_that_is_not_known_ends_no_following_while_the_run_goes_on(
    bus: BusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = CaptureRequest(capture_id="01KAAAAAAAAAAAAAAAAAAAAAAC", guests=("db1",))
    one = Client(bus)
    key, idle = names.events_key(request.capture_id), [1, 2, 3]
    with contextlib.closing(one._redis) as own:
        xread = own.xread

        def reading(*arguments: Any, **options: Any) -> Any:
            found = xread(*arguments, **(options | {"block": 1}))
            if not found and not idle:  # it ends as the orchestrator ends it: told and no more active, in one step
                own.xadd(key, {"event": end(request, RunState.DONE).model_dump_json()})
                own.srem(names.ACTIVE_RUNS_KEY, request.capture_id)
            elif not found:
                idle.pop()
            return found

        own.hset(names.run_key(request.capture_id), "record", "{}")
        own.sadd(names.ACTIVE_RUNS_KEY, request.capture_id)
        own.xadd(key, {"event": newer(state(request, RunState.PREPARING))})
        monkeypatch.setattr(own, "xread", reading)
        assert [event.type for event in one.follow(request.capture_id)] == ["end"]
    assert idle == []


@pytest.mark.parametrize(("rate", "bytes_s"), [("50M", 50 << 20), ("1.5G", 3 << 29), ("1MiB/s", 1 << 20)])
def test_a_rate_goes_into_the_request(run: Run, bus: BusSettings, rate: str, bytes_s: int) -> None:
    asked: list[CaptureRequest] = []

    def told(request: CaptureRequest) -> list[Told]:
        asked.append(request)
        return well(request)

    with orchestra(bus, told):
        assert run("capture", "db1", "--limit-rate", rate).exit_code == 0
    assert [request.limit_bytes_s for request in asked] == [bytes_s]


@pytest.mark.parametrize("rate", ["0.5M", "50", "fast", "-1M", "50K"])
def test_a_rate_that_cannot_be_used_is_refused_before_anything_is_asked(run: Run, rate: str) -> None:
    ran = run("capture", "db1", f"--limit-rate={rate}")
    assert ran.exit_code == 2
    assert "at least 1M" in " ".join(ran.stderr.split())

"""Planning beside a long history: a repository with many captures of 20 guests each, of which each guest is in one of 500.

    newest first    captures of group 0, 1, … 499, 0, 1, …        500 captures are a day of 10,000 guests

| guests of    | their last capture is                                               |
|--------------|---------------------------------------------------------------------|
| the last one | the newest of all                                                   |
| a day ago    | behind 499 others, all of which were made since                     |
| none         | nowhere: they were never captured, which the whole history must say |

Each is planned by a process of its own, as an orchestrator that has just been started plans its first capture, and then once
more. The first row is of an orchestrator that knows nothing: Redis does not have which guests each capture has, and the second
plan reads what the first one left (10,000 manifests are the most for one). With a delay the history is in object storage, so
far away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ulid import ULID

from freezeframe import bus, presence
from freezeframe.access import open_repository
from freezeframe.contract import names
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy, RunState
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository
from freezeframe.settings import BusSettings, OrchestratorSettings, load
from ops.fleet.made_up import XML_CHARACTERS, name_of
from ops.fleet.site import environment
from ops.measure.barrier import redis_server
from ops.measure.delay_proxy import far_away
from ops.measure.measured import peak_mib
from ops.object_storage import BUCKET, ObjectStorage
from orchestrator import planning
from orchestrator.board import Boards
from orchestrator.parents import Briefs
from orchestrator.run import Run, Runs

MANIFESTS: Final = (1500, 15_000)
DELAYS_MS: Final = (0, 30)
GUESTS: Final = 20
GROUPS: Final = 500
#: The groups of which one is planned: by how many captures ago their last one was. The last has none.
AGES: Final = {"the last one": 0, "a day ago": GROUPS - 1, "none": None}
DISKS: Final = ("vda", "vdb")
CHUNK_BYTES: Final = 512 << 10
DISK_BYTES: Final = 100 << 30
HOST: Final = "host-a.example"
ROOT: Final = Path(__file__).parents[2]


def rows(directory: Path, manifests: int, delays_ms: Sequence[int] = DELAYS_MS) -> Iterator[dict[str, Any]]:
    """Measure a plan for each delay and each age of the guests' last capture."""
    for delay_ms in delays_ms:
        with _filled(directory / str(delay_ms), manifests, delay_ms) as env:
            for is_known, guests_of in ((False, "none"), *((True, one) for one in AGES)):
                where = {"manifests": manifests, "delay_ms": delay_ms, "guests_of": guests_of, "known": is_known}
                yield {**where, **_planned(env, guests_of)}


@contextmanager
def _filled(directory: Path, manifests: int, delay_ms: int) -> Iterator[dict[str, str]]:
    """Make the history; yield the environment of those who plan with it."""
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        env = environment(directory, stack.enter_context(redis_server()))
        if delay_ms:
            storage = stack.enter_context(ObjectStorage(directory / "storage"))
            host, _, port = storage.endpoint.removeprefix("http://").partition(":")
            far = stack.enter_context(far_away(host, int(port)))
            own = {"FREEZEFRAME_S3_ENDPOINT": far.endpoint, "FREEZEFRAME_REPOSITORY": f"s3://{BUCKET}/history"}
            env |= {**storage.settings(), **own}
            far.delay(0)
            _run(env, "fill", str(manifests))
            far.delay(delay_ms)
        else:
            _run(env, "fill", str(manifests))
        yield env


def _planned(env: dict[str, str], guests_of: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run(env, "plan", guests_of).splitlines()[-1])
    return found


def _run(env: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "ops.measure.history", *words]
    return subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def fill(address: str, manifests: int) -> None:
    """Make a repository with so many captures, without a look at their indexes, which are nowhere."""
    repository = Repository.init(address, chunk_bytes=CHUNK_BYTES)
    protection, store = repository.objects.protection, repository.store
    for number in range(manifests):
        manifest = manifest_of(number, (manifests - 1 - number) % GROUPS, manifests)
        name = protection.manifest_name(manifest.capture_id)
        store.put_if_absent(name, protection.protect(name, manifest.to_json()))


def manifest_of(number: int, group: int, manifests: int) -> Manifest:
    """Return the manifest of a capture of a group; the last one was made a minute ago, each a minute after the one before."""
    at = datetime.now(UTC) - timedelta(minutes=manifests - number)
    capture_id = str(ULID.from_datetime(at))
    return Manifest(
        capture_id=capture_id,
        created_at=at,
        instant=Instant(at=at),
        hold=HoldKind.FREEZE,
        policy=Policy.ALL,
        consistency=Consistency.CRASH,
        kind=CaptureKind.FULL,
        guests=tuple(_guest(one, number, capture_id) for one in uuids(group)),
        proof=None,
    )


def _guest(guest_uuid: str, number: int, capture_id: str) -> GuestCapture:
    return GuestCapture(
        guest_uuid=guest_uuid,
        name=name_of(guest_uuid),
        host_id=HOST,
        domain_xml=f"<domain>{'x' * XML_CHARACTERS}</domain>",
        live_xml=f"<domain>{'y' * XML_CHARACTERS}</domain>",
        consistency=Consistency.CRASH,
        hold_ms=50.0,
        disks=tuple(
            DiskCapture(
                target=target,
                source=f"/dev/san/{guest_uuid}-{target}",
                source_format="qcow2",
                size_bytes=DISK_BYTES,
                chunk_bytes=CHUNK_BYTES,
                kind=CaptureKind.FULL,
                checkpoint=f"freezeframe.{capture_id}",
                index=f"{number:063x}{place:x}",
                bytes_read=DISK_BYTES,
                bytes_stored=DISK_BYTES,
                chunks_new=1000,
                chunks_known=1000,
            )
            for place, target in enumerate(DISKS)
        ),
    )


def uuids(group: int) -> list[str]:
    """Return the UUIDs of a group's guests."""
    return [f"00000000-0000-4000-8000-{group:06x}{guest:06x}" for guest in range(GUESTS)]


def plan(guests_of: str) -> dict[str, Any]:
    """Plan a capture of these guests twice; return what that took."""
    wanted = uuids(GROUPS if (age := AGES[guests_of]) is None else age)
    settings, repository = load(BusSettings), open_repository()
    with bus.connect(settings) as client:
        runs, briefs = Runs(client, 3600), Briefs()
        first = _measured(client, runs, repository, briefs, wanted)
        again = _measured(client, runs, repository, briefs, wanted)
    return {**first, **{f"again_{name}": value for name, value in again.items()}}


def _measured(client: Any, runs: Runs, repository: Repository, briefs: Briefs, wanted: list[str]) -> dict[str, Any]:
    presence.publish(client, _entry(wanted))
    client.persist(names.alive_key(HOST))  # a plan may take longer than a host may be silent
    now = datetime.now(UTC)
    request = CaptureRequest(capture_id=str(ULID()), guests=tuple(name_of(one) for one in wanted))
    blank = Run(
        capture_id=request.capture_id, request=request, asked_at=now, state=RunState.ASKED, entered_at=now, due_at=now
    )
    before, began, cpu_began = peak_mib(), time.monotonic(), time.process_time()
    planner = planning.Planner(client, runs, repository, OrchestratorSettings(), briefs, Boards(), planning.AtWork())
    planned = planner.planned(blank)
    took = {
        "plan_ms": round((time.monotonic() - began) * 1000),
        "plan_cpu_ms": round((time.process_time() - cpu_began) * 1000),
        "grown_mib": round(peak_mib() - before, 1),
    }
    assert planned is not None
    assert planned.state is RunState.PREPARING, planned.faults
    repository.sessions.end(request.capture_id, sealed=False)
    return took


def _entry(wanted: list[str]) -> HostEntry:
    return HostEntry(
        host_id=HOST,
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="11.3.0",
        qemu_version="10.0.2",
        guests=tuple(GuestEntry(guest_uuid=one, name=name_of(one), state="running") for one in wanted),
    )


def main() -> None:
    what, word = sys.argv[1:]
    if what == "fill":
        fill(os.environ["FREEZEFRAME_REPOSITORY"], int(word))
    else:
        print(json.dumps(plan(word)))


if __name__ == "__main__":
    main()

"""An orchestrator and its host of any kept version, for a process of its own: `python program.py REDIS REPOSITORY`.

Each line that it reads is a step, and each is answered with a line of JSON. It calls only functions of the kept versions.

    record asked|queued                                         a run that came to this state by nothing, in its versions
    publish · ask · look · reconcile · late · state             of the one capture; `late`: the time of its state is over
    answer prepare|hold|transfer|release                        as a host of this version tells it; nobody looks
    orders                                                      what is on the host's queues, which are empty then
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import structlog

from freezeframe import bus, presence
from freezeframe.contract import names, result
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import CaptureKind, HoldKind, RunState, Step
from freezeframe.repository import Repository
from freezeframe.settings import BusSettings, OrchestratorSettings
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Runs

CHUNK = 4096
GUEST = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
HOST = "host-a"
DISK = b"a" * CHUNK


class Version:
    """What this process is of a site with one host, one guest and one capture."""

    def __init__(self, redis_url: str, repository: str, capture_id: str) -> None:
        settings = BusSettings.model_validate({"redis_url": redis_url})
        self.redis = bus.connect(settings)
        self.capture_id = capture_id
        self.repository = Repository.open(Path(repository))
        self.orchestrator = Orchestrator(
            app=bus.celery_app("orchestrator", settings),
            redis=self.redis,
            runs=Runs(self.redis, 3600),
            settings=OrchestratorSettings(),
            repository=self.repository,
        )

    def step(self, word: str, *rest: str) -> Any:
        return getattr(self, f"_{word}")(*rest)

    def _publish(self) -> None:
        guest = GuestEntry(guest_uuid=GUEST, name="web", state="running")
        entry = HostEntry(
            host_id=HOST,
            at=datetime.now(UTC),
            freezeframe_version="0",
            libvirt_version="9.0.0",
            qemu_version="7.2.0",
            guests=(guest,),
        )
        presence.publish(self.redis, entry)
        self.redis.persist(names.alive_key(HOST))

    def _ask(self) -> None:
        take_in(self.orchestrator, CaptureRequest(capture_id=self.capture_id, guests=("web",)))

    def _record(self, state: str) -> None:
        request, now = CaptureRequest(capture_id=self.capture_id, guests=("web",)), datetime.now(UTC)
        later = now + timedelta(hours=1)
        run = Run(
            capture_id=self.capture_id,
            request=request,
            asked_at=now,
            state=RunState(state),
            entered_at=now,
            due_at=later,
        )
        self.orchestrator.runs.create(run)

    def _look(self) -> None:
        self.orchestrator.look(self.capture_id)

    def _reconcile(self) -> None:
        Reconciler(self.orchestrator).reconcile()

    def _late(self) -> None:
        run, version = self.orchestrator.runs.load(self.capture_id) or (None, "")
        if run is not None and not run.state.ended:
            over = run.model_copy(update={"due_at": datetime.now(UTC) - timedelta(seconds=1)})
            self.orchestrator.runs.change(over, version, tell=False)

    def _state(self) -> dict[str, Any]:
        loaded = self.orchestrator.runs.load(self.capture_id)
        sessions = self.repository.sessions
        session = self.capture_id in sessions.stored_at() and sessions.load(self.capture_id).ended_at is None
        return {
            "state": None if loaded is None else str(loaded[0].state),
            "faults": [] if loaded is None else [fault.code for fault in loaded[0].faults],
            "told": loaded is not None and loaded[0].receipt is not None,
            "active": self.capture_id in self.orchestrator.runs.active(),
            "sealed": self.repository.is_sealed(self.capture_id),
            "session": session,
        }

    def _orders(self) -> list[str]:
        """Return the names of the tasks."""
        found: list[str] = []
        for queue in sorted(set(self.redis.scan_iter(match=f"host.{HOST}.*"))):
            messages = cast("list[str]", self.redis.lrange(queue, 0, -1))
            found += [str(json.loads(message)["headers"]["task"]) for message in messages]
            self.redis.delete(queue)
        return sorted(found)

    def _answer(self, step: str) -> None:
        made, part = getattr(self, f"_{step}_result")()
        field = names.result_field(Step(step), HOST, part)
        self.redis.hset(names.results_key(self.capture_id), field, made.model_dump_json())

    def _prepare_result(self) -> tuple[Any, str]:
        disk = result.PreparedDisk(
            target="vda", source="/d", source_format="raw", size_bytes=len(DISK), kind=CaptureKind.FULL, checkpoint="cp"
        )
        guest = result.PreparedGuest(guest_uuid=GUEST, name="web", domain_xml="<domain/>", disks=(disk,))
        if hasattr(names, "definitions_key"):
            Definition = import_module("freezeframe.contract.definition").Definition  # noqa: N806  a class
            place = names.definition_field(HOST, GUEST)
            text = Definition(domain_xml="<domain/>").model_dump_json()
            self.redis.hset(names.definitions_key(self.capture_id), place, text)
            guest = guest.model_copy(update={"domain_xml": "", "definition_bytes": len(text)})
        return result.PrepareResult(capture_id=self.capture_id, host_id=HOST, guests=(guest,)), ""

    def _hold_result(self) -> tuple[Any, str]:
        now_us = round(datetime.now(UTC).timestamp() * 1e6)
        guest = GuestProof(
            guest_uuid=GUEST,
            hold=GuestHold(kind=HoldKind.FREEZE),
            frozen_filesystems=1,
            hold_start_ns=1,
            held_ns=2,
            begun_ns=3,
            thaw_start_ns=6,
            thawed_ns=7,
        )
        arrival: dict[str, Any] = {"arrived_us": now_us}
        if "arrivals" in result.HoldResult.model_fields:
            arrival = {"arrivals": ({"host_id": HOST, "redis_us": now_us},)}
        made = result.HoldResult(
            capture_id=self.capture_id,
            host_id=HOST,
            proof=HostProof(host_id=HOST, boot_id="b", report_ns=4, woken_ns=5, guests=(guest,)),
            release_us=now_us,
            release_arrivals=1,
            **arrival,
        )
        return made, ""

    def _transfer_result(self) -> tuple[Any, str]:
        with self.repository.disk_writer(len(DISK), CHUNK, checkpoint="cp") as writer:
            writer.write_chunk(0, DISK)
            index = writer.finish().digest
        made = result.TransferResult(
            capture_id=self.capture_id, host_id=HOST, guest_uuid=GUEST, target="vda", index=index, bytes_read=CHUNK
        )
        return made, f"{GUEST}.vda"

    def _release_result(self) -> tuple[Any, str]:
        return result.ReleaseResult(capture_id=self.capture_id, host_id=HOST), ""


def main(redis_url: str, repository: str, capture_id: str) -> None:
    version = Version(redis_url, repository, capture_id)
    sys.stdout.write(json.dumps(Path(result.__file__).as_posix()) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps({"gave": version.step(*line.split())}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    main(*sys.argv[1:])

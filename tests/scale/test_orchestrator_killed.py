"""The orchestrator is killed in every phase of a capture of several hosts, before and after what it does there.

A hook stops the process where the test wants it: the next thing that happens is its end. Whoever reads docs/architecture.md
knows what becomes of the capture: it goes on where it was, and shows one instant.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ulid import ULID

from freezeframe import bus
from freezeframe.client import Client
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import Consistency, RunState, Step
from ops.fleet.made_up import MadeUp
from ops.fleet.site import ROOT, Site
from ops.measure.barrier import redis_server

pytestmark = pytest.mark.timeout(240)

HOSTS = MadeUp(6, 2, 2)

#: Stops the process in a call of a function, before or after it is done, as long as a file says so.
_HOOK = """
import importlib, os, pathlib, threading

place = pathlib.Path(os.environ["FF_TEST_PLACE"])
if place.exists():
    when, path, word = place.read_text().split()
    module, _, name = path.rpartition(":")
    owner = importlib.import_module(module)
    *owners, last = name.split(".")
    for one in owners:
        owner = getattr(owner, one)
    real = getattr(owner, last)

    def stop():
        place.with_suffix(".reached").touch()
        threading.Event().wait()

    def hooked(*args, **kwargs):
        meant = word == "any" or args[1] == word  # a step is a word
        if meant and when == "before":
            stop()
        made = real(*args, **kwargs)
        if meant and when == "after":
            stop()
        return made

    setattr(owner, last, hooked)
"""

#: Where the process is stopped: the state that the record has then, and the call.
PLACES = {
    "asked, before it is planned": (RunState.ASKED, "before orchestrator.planning:Planner.planned any"),
    "asked, when its place is taken": (RunState.ASKED, "after orchestrator.admission:ask any"),
    "asked, when its session is begun": (RunState.ASKED, "before orchestrator.planning:Parents any"),
    "asked, when it is planned": (RunState.ASKED, "after orchestrator.planning:Planner.planned any"),
    "preparing, before the orders are sent": (RunState.PREPARING, "before orchestrator.dispatch:send prepare"),
    "preparing, when they were sent": (RunState.PREPARING, "after orchestrator.dispatch:send prepare"),
    "preparing, when all have answered": (RunState.PREPARING, "after orchestrator.decision:_end_prepare any"),
    "holding, before the orders are sent": (RunState.HOLDING, "before orchestrator.dispatch:send hold"),
    "holding, when they were sent": (RunState.HOLDING, "after orchestrator.dispatch:send hold"),
    "holding, when all have answered": (RunState.HOLDING, "before orchestrator.decision:proof_of any"),
    "transferring, before the orders are sent": (RunState.TRANSFERRING, "before orchestrator.dispatch:send transfer"),
    "transferring, when they were sent": (RunState.TRANSFERRING, "after orchestrator.dispatch:send transfer"),
    "sealing, before the manifest": (RunState.SEALING, "before freezeframe.repository:Repository.seal any"),
    "sealing, when it is visible": (RunState.SEALING, "after freezeframe.repository:Repository.seal any"),
    "releasing, before the orders are sent": (RunState.RELEASING, "before orchestrator.dispatch:send release"),
    "releasing, when they were sent": (RunState.RELEASING, "after orchestrator.dispatch:send release"),
    "releasing, when the session is ended": (RunState.RELEASING, "after orchestrator.sessions:end any"),
}

#: A message is taken, and what it asks for is not recorded.
TAKEN = "before orchestrator.app:take_in_patiently any"


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ff-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


def reached(place: Path, site: Site) -> bool:
    """Wait until the process stands where it is to be killed; False if it has ended."""
    while not place.with_suffix(".reached").exists():
        if site.process.poll() is not None:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def killed_there(directory: Path, call: str) -> Iterator[tuple[Site, Path]]:
    """Yield a site with hosts whose orchestrator stops at a call, and the file that says so."""
    place, hooks = directory / "place", directory / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(_HOOK)
    place.write_text(call)
    # the hook's imports come before the working directory is on the path
    variables = {"PYTHONPATH": f"{hooks}{os.pathsep}{ROOT}", "FF_TEST_PLACE": str(place)}
    with redis_server() as url, Site(directory, url, **variables) as site, site.fleet(HOSTS) as fleet:
        fleet.tell("take-orders")
        fleet.tell("publish")
        yield site, place


def restarted(site: Site, place: Path) -> None:
    """Kill the orchestrator, and start one that does not stop."""
    site.kill()
    place.unlink()
    site.start_again()


@pytest.mark.parametrize("where", PLACES)
def test_a_capture_goes_on_after_its_orchestrator_was_killed(directory: Path, where: str) -> None:
    state, call = PLACES[where]
    with killed_there(directory, call) as (site, place):
        request = CaptureRequest(capture_id=str(ULID()), every_guest=True, muster_timeout_s=60, hold_timeout_s=60)
        client = Client(site.settings)
        client.ask(request)
        assert reached(place, site)
        found = client.find_run(request.capture_id)
        assert found is not None
        assert found.state is state
        restarted(site, place)
        [receipt] = [one.receipt for one in client.follow(request.capture_id) if isinstance(one, EndEvent)]
        assert (receipt.state, receipt.consistency) == (RunState.DONE, Consistency.GROUP)
        assert receipt.faults == ()
        sealed = site.repository.manifest(request.capture_id)
        assert len({guest.guest_uuid for guest in sealed.guests}) == HOSTS.guests
        assert site.repository.sessions.load(request.capture_id).ended_at is not None


def test_a_request_that_was_taken_and_not_recorded_is_taken_again(directory: Path) -> None:
    """It has no end here: whoever gives up after 30 s is told so."""
    with killed_there(directory, TAKEN) as (site, place):
        request = CaptureRequest(capture_id=str(ULID()), every_guest=True, muster_timeout_s=60, hold_timeout_s=60)
        bus.celery_app("client", site.settings).send_task(
            names.INTAKE_TASK, [request.model_dump(mode="json")], queue=names.ORCHESTRATOR_QUEUE, ignore_result=True
        )
        assert reached(place, site)
        client = Client(site.settings)
        assert client.find_run(request.capture_id) is None
        restarted(site, place)
        [receipt] = [
            one.receipt for one in client.follow(request.capture_id, pick_up_s=120) if isinstance(one, EndEvent)
        ]
        assert (receipt.state, receipt.faults) == (RunState.DONE, ())


def test_every_state_of_a_run_has_its_places() -> None:
    """But for those that have ended; one that is queued has been asked, and is planned again as one that was not."""
    assert {state for state, _ in PLACES.values()} == {one for one in RunState if not one.ended} - {RunState.QUEUED}
    assert {call.split()[2] for _, call in PLACES.values()} >= {str(step) for step in Step}

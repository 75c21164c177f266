"""The orchestrator's process: its tasks reach the orchestrator, its reconciler runs, and it begins only with a repository."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from celery.signals import setup_logging

from freezeframe import bus, eviction, log
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import WantedKind
from freezeframe.errors import FreezeframeError
from freezeframe.presence import UnreadHost
from orchestrator import app as app_module
from orchestrator import commands
from orchestrator.crew import Crew
from orchestrator.errors import NoGuestsError, UnknownGuestError
from orchestrator.unread import MOST_NAMED, explained

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What reached the orchestrator, and what else was begun."""
    made: list[tuple[object, ...]] = []
    orchestrator = SimpleNamespace(look=lambda capture_id: made.append(("look", capture_id)))
    monkeypatch.setattr(app_module, "orchestrator", lambda: orchestrator)
    monkeypatch.setattr(
        app_module, "take_in_patiently", lambda by, request, until: made.append(("intake", by, request, until))
    )
    monkeypatch.setattr(app_module, "start_http_server", lambda port, addr: made.append(("metrics", port, addr)))
    return made


def test_a_look_at_a_run_is_one(done: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew("look", 1)
    monkeypatch.setattr(app_module, "_looks", crew)
    app_module.look(CAPTURE)
    assert done == []  # none of Celery's threads looks
    crew.start(app_module.orchestrator().look)
    crew.end()
    crew._threads[0].join()
    assert done == [("look", CAPTURE)]


def test_a_request_is_taken_in_until_its_caller_gives_up(done: list[tuple[object, ...]]) -> None:
    request = CaptureRequest(capture_id=CAPTURE, guests=("alpha",), kind=WantedKind.FULL)
    app_module.intake(request.model_dump(mode="json"), 77)
    assert [(one[0], *one[2:]) for one in done] == [("intake", request, 77)]


@pytest.mark.parametrize(("port", "served"), [(0, []), (9100, [("metrics", 9100, "127.0.0.1")])])
def test_the_reconciler_runs_until_the_worker_stops_and_metrics_show_on_this_machine_only(
    done: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, port: int, served: list[tuple[object, ...]]
) -> None:
    """Without it a run whose host has died would never end."""
    stop, ran = threading.Event(), threading.Event()

    class Reconciler:
        def __init__(self, orchestrator: object) -> None:
            assert orchestrator is app_module.orchestrator()

        def at_work(self) -> bool:
            return True

        def run_forever(self, until: threading.Event) -> None:
            ran.set()
            assert until.wait(60)

    monkeypatch.setenv("FREEZEFRAME_METRICS_PORT", str(port))
    monkeypatch.setattr(app_module, "Reconciler", Reconciler)
    monkeypatch.setattr(app_module, "_stop", stop)
    app_module._begin()
    assert ran.wait(60)
    (thread,) = [one for one in threading.enumerate() if one.name == "reconciler"]
    assert thread.daemon  # nor does it keep a worker that has no more to do
    app_module._end()
    thread.join(60)
    assert not thread.is_alive()
    assert done == served


class NoRepositoryError(FreezeframeError):
    pass


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    made: list[object] = []
    thresholds = gc.get_threshold()
    monkeypatch.setattr(commands, "open_repository", lambda: made.append("repository"))
    monkeypatch.setattr(eviction, "check", lambda _client: made.append("redis"))
    monkeypatch.setattr(bus, "give_back", lambda app: made.append(("given back", app)))
    monkeypatch.setattr(bus, "run_worker", lambda app, options: made.append((app, options)))
    monkeypatch.setattr(log, "configure", lambda: made.append("log"))
    monkeypatch.setenv("FREEZEFRAME_HOST_ID", "control")
    monkeypatch.setattr(setup_logging, "receivers", [])
    yield made
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_the_verb_runs_a_worker_on_its_queue_once_there_is_a_repository(begun: list[object]) -> None:
    commands.orchestrator()
    app = app_module.app
    assert begun == ["log", "repository", "redis", ("given back", app), (app, commands.worker_options("control"))]
    assert setup_logging.receivers  # or Celery would write its own lines between ours
    assert gc.get_threshold() == commands.GC_THRESHOLDS
    assert gc.get_freeze_count() > 10_000  # the modules' objects are not looked at again


def test_without_a_repository_no_worker_is_begun(begun: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoRepositoryError("there is none")

    monkeypatch.setattr(commands, "open_repository", missing)
    with pytest.raises(NoRepositoryError):
        commands.orchestrator()
    assert begun == ["log"]


REFUSALS: list[Callable[[str], UnknownGuestError | NoGuestsError]] = [UnknownGuestError, NoGuestsError]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_as_it_is_where_every_host_can_be_read(
    refusal: Callable[[str], UnknownGuestError | NoGuestsError],
) -> None:
    error = refusal("there is no guest beta")
    assert explained(error, []) is error


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_names_a_few_of_the_hosts_that_cannot_be_read(
    refusal: Callable[[str], UnknownGuestError | NoGuestsError],
) -> None:
    hosts = [UnreadHost(f"hv-{number}", "cannot be read", alive=True) for number in range(MOST_NAMED + 3)]
    few = explained(refusal("There is no guest beta."), hosts[:MOST_NAMED]).message
    assert all(host.host_id in few for host in hosts[:MOST_NAMED])
    many = explained(refusal("There is no guest beta."), hosts).message
    assert many == f"{few} Nor are those of 3 more hosts."

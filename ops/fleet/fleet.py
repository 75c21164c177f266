"""The fleet: all its hosts, their threads, and what each does with an order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import structlog
from celery import Celery
from celery.worker.request import Request

from freezeframe import __version__, bus
from freezeframe.contract import names
from freezeframe.contract.inventory import CONTRACT, HostEntry
from freezeframe.contract.words import Step
from freezeframe.settings import BusSettings, HostSettings
from freezeframe.transport import POLL_S
from ops.fleet.line import Line, Lines, Listener
from ops.fleet.made_up import MadeUp
from ops.fleet.steps import MadeUpSteps
from workers import instance, inventory, recovery
from workers.binding import Binding, this_machine
from workers.claims import Claims
from workers.commands.worker import HEARTBEAT_S, Role
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.journal import Journal
from workers.pace import Paces
from workers.steps.frame import run_step
from workers.unknown_runs import UnknownRuns

log = structlog.get_logger("fleet")

#: Threads for the steps that wait for nobody.
THREADS: Final = 4


class Fleet:
    """Hosts that take orders, from `with` to its end. They publish themselves and recover when they are told, or by themselves.

    `lines` opens them: without those for data no transfer begins.
    """

    def __init__(self, settings: BusSettings, directory: Path, steps: MadeUpSteps) -> None:
        self.made_up: MadeUp = steps.made_up
        self._client = bus.connect(settings)
        self.hosts = {
            host_id: host_of(settings, directory / host_id, host_id, self._client) for host_id in self.made_up.host_ids
        }
        self._codes = steps.codes()
        self._lines = Lines()
        self._stop = threading.Event()
        self._exit = ExitStack()
        self._app = bus.celery_app("host.fleet", settings)
        self._tasks = {name: self._task(step) for step, name in names.STEP_TASKS.items()}
        hosts = list(self.hosts.values())
        self._bound = {one.host_id: Binding(one.settings, one.redis, this_machine(one.settings)) for one in hosts}
        self._unknown = {one.host_id: UnknownRuns() for one in hosts}

    def _task(self, step: Step) -> Any:
        def do(order: dict[str, Any]) -> dict[str, Any]:
            return run_step(self.hosts[order["host_id"]], self._codes[step], order)

        return self._app.task(name=names.STEP_TASKS[step], shared=False)(do)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.close)
            connection = stack.enter_context(self._app.connection_for_read())
            self._channel = connection.channel()
            self._events = _dispatcher(self._app, connection)
            stack.callback(self._lines.close)
            self._pool = stack.enter_context(ThreadPoolExecutor(THREADS))
            self._holds = stack.enter_context(ThreadPoolExecutor(self.made_up.hosts))  # each waits for the others
            for host in self.hosts.values():
                for kind in (instance.CONTROL, instance.DATA):
                    instance.begin(host.settings.state_dir, kind)
            stack.enter_context(_repeated(self._take_orders, 0.0, self._stop))
            stack.callback(self._stop.set)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def close(self) -> None:
        """Close the connection of a fleet that took no orders."""
        self._client.close()

    def open_lines(self, *steps: Step, poll_s: int = POLL_S) -> None:
        """Have the workers of these steps wait for orders."""
        for host_id in self.hosts:
            queues = dict.fromkeys(names.step_queue(step, host_id) for step in steps)
            self._lines.add(Line(self._client, list(queues), poll_s))

    def publish(self) -> None:
        """Put each host into the inventory."""
        for host in self.hosts.values():
            inventory.publish(host, self._bound[host.host_id], partial(entry_of, host, self.made_up))

    def stay_up(self) -> None:
        """Have each host that has published itself count as up until it does so again, however long that takes."""
        for host_id in self.hosts:
            self._client.persist(names.alive_key(host_id))

    def recover(self) -> None:
        """Have each host look for captures that nobody will release."""
        for host in self.hosts.values():
            recovery.recover(host, unknown=self._unknown[host.host_id])

    def beat(self) -> None:
        """Tell Flower of both workers of each host that they live."""
        for host_id in self.hosts:
            for role in Role:
                self._events.hostname = f"{role}@{host_id}"
                self._events.send("worker-heartbeat", freq=HEARTBEAT_S, active=0, processed=0, loadavg=(0.0, 0.0, 0.0))

    def live(self) -> None:
        """Have each host do from now on what one does without orders, as often as a real one does."""
        for _ in range(len(Role) * self.made_up.hosts):
            self._exit.callback(Listener(self._client).close)
        interval_s = next(iter(self.hosts.values())).settings.inventory_interval_s
        for work, seconds in ((self.publish, interval_s), (self.recover, recovery.LOOK_S), (self.beat, HEARTBEAT_S)):
            self._exit.enter_context(_repeated(work, seconds, self._stop))
            self._exit.callback(self._stop.set)

    def _take_orders(self) -> None:
        for payload in self._lines.messages(0.2):
            self._take(payload)

    def _take(self, payload: dict[str, Any]) -> None:
        """Do with a message what a worker does: note it, acknowledge it, tell Flower, and have a thread at work on it."""
        message = self._channel.Message(payload, channel=self._channel)
        self._channel.qos.append(message, message.delivery_tag)
        request = Request(
            message,
            app=self._app,
            on_ack=message.ack_log_error,
            eventer=self._events,
            task=self._tasks[message.headers["task"]],
            body=message.body,
            headers=message.headers,
            hostname="control@fleet",
        )
        request.send_event("task-received", name=request.name, args=request.argsrepr, kwargs="{}")
        request.acknowledge()
        pool = self._holds if request.name == names.STEP_TASKS[Step.HOLD] else self._pool
        pool.submit(_execute, request)


def _execute(request: Any) -> None:
    try:
        began = time.monotonic()
        request.on_accepted(os.getpid(), began)
        answer = request.execute()
        request.on_success((False, answer, time.monotonic() - began))
    except Exception:  # nobody looks at what the thread's pool keeps of it
        log.exception("an order was not answered")


def _dispatcher(app: Celery, connection: Any) -> Any:
    """Return what tells Flower: each event by itself, in the form of a worker, which puts together those that come at once."""
    return app.events.Dispatcher(connection, hostname="control@fleet", buffer_group=frozenset({"task"}), buffer_limit=1)


def host_of(settings: BusSettings, directory: Path, host_id: str, client: Any) -> Host:
    """Return a host with directories of its own. Its libvirt is asked for nothing."""
    places = {f"{name}_dir": directory for name in ("state", "run", "scratch", "libvirt_run")}
    return Host(
        settings=HostSettings.model_validate({"host_id": host_id, **places}),
        bus=settings,
        repository=str(directory / "repository"),
        hypervisor=Hypervisor("test:///default"),
        redis=client,
        journal=Journal(directory),
        claims=Claims(directory),
        paces=Paces(directory),
    )


def entry_of(host: Host, made_up: MadeUp) -> HostEntry:
    """Return a host as it is now, as `workers.inventory.entry_of` does without its libvirt."""
    return HostEntry(
        contract=CONTRACT,
        host_id=host.host_id,
        at=datetime.now(UTC),
        freezeframe_version=__version__,
        libvirt_version="11.3.0",
        qemu_version="10.0.2",
        guests=made_up.entries(host.host_id),
        open_captures=tuple(journal.capture_id for journal in host.journal.unended()),
        control_instance=instance.current(host.settings.state_dir, instance.CONTROL),
        data_instance=instance.current(host.settings.state_dir, instance.DATA),
        highest_epoch=host.claims.highest_epoch(),
    )


class _repeated:  # noqa: N801  used as a function
    """Call `work` again and again, each `seconds`, in a thread, until `stop`."""

    def __init__(self, work: Callable[[], None], seconds: float, stop: threading.Event) -> None:
        self._work, self._seconds, self._stop = work, seconds, stop
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._work()
            except Exception:
                if self._stop.is_set():
                    return
                log.exception("a thread of the fleet is in trouble")
            self._stop.wait(max(0.0, self._seconds - (time.monotonic() - began)))

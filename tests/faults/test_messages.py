"""Every message delivered twice, late, and out of order: nothing changes (invariant 6)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ulid import ULID

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.contract.order import Order, PrepareOrder
from freezeframe.contract.words import RunState, Step
from ops.lab.waiting import wait_for
from orchestrator.path import STEP_OF, orders_of
from orchestrator.run import Run, Runs

from .bench import Bench
from .bounds import BY_HOST_S
from .cell import Watch
from .watch import Capture

STATES = (RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.RELEASING)
#: Seconds for a message that changes nothing to have changed nothing.
QUIET_S = 3.0


class Post:
    """Delivers orders, as the broker would."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._runs = Runs(bench.system.redis, 3600)
        self._app = bus.celery_app("post", bench.system.bus_settings)

    def orders(self, capture_id: str, state: RunState) -> list[Order]:
        """The orders of a state, rebuilt from the run's record as the orchestrator does."""
        loaded = self._runs.load(capture_id)
        assert loaded is not None
        run: Run = loaded[0]
        if run.state is not state:
            run = run.model_copy(update={"state": state, "kept": run.kept or ()})
        prepared = self._runs.answers(capture_id).prepared
        return orders_of(run, prepared, datetime.now(UTC) + timedelta(hours=1))

    def deliver(self, step: Step, orders: Sequence[Order]) -> None:
        with self._app.connection_for_write() as connection:
            for order in orders:
                self._app.send_task(
                    names.STEP_TASKS[step],
                    args=[order.model_dump(mode="json")],
                    queue=names.step_queue(step, order.host_id),
                    connection=connection,
                )

    def again(self, capture: Capture) -> None:
        """What only the orchestrator gets: the request, and that it should look."""
        for task, argument in (
            (names.INTAKE_TASK, capture.request.model_dump(mode="json")),
            (names.LOOK_TASK, capture.capture_id),
        ):
            with self._app.connection_for_write() as connection:
                self._app.send_task(task, args=[argument], queue=names.ORCHESTRATOR_QUEUE, connection=connection)

    def delivered(self) -> None:
        """Until every message was taken from its queue and what it began is done: then a control worker's own answer is
        behind all of them.
        """
        client = self._bench.system.redis
        queues = [names.ORCHESTRATOR_QUEUE]
        for host_id in self._bench.lab.hosts:
            queues += names.host_queues(host_id)
        wait_for("the queues to drain", lambda: not any(client.llen(queue) for queue in queues), 120.0, 0.1)
        wait_for("nothing begun is left", lambda: _quiet(self._bench), 120.0, QUIET_S / 3)


def _quiet(bench: Bench) -> bool:
    entries = [host.entry for host in bench.hosts()]
    return not any(entry.open_captures for entry in entries)


def test_every_message_twice(bench: Bench) -> None:
    """During the run, at the beginning of each state; and all of them once more when it has ended."""
    watch = Watch(bench, "every message delivered twice", "all")
    post = Post(bench)
    capture = Capture(bench.system)
    sent = {}
    for state in STATES:
        capture.wait(state)
        sent[state] = post.orders(capture.capture_id, state)
        post.deliver(STEP_OF[state], sent[state])
        post.again(capture)
    assert capture.end() == "sealed, group"
    manifest = bench.manifest(capture.capture_id)
    for state in STATES:
        post.deliver(STEP_OF[state], sent[state])
        post.again(capture)
    post.delivered()
    assert bench.manifest(capture.capture_id) == manifest
    watch.judge(capture, BY_HOST_S)


def test_every_message_late(bench: Bench) -> None:
    """The orders of an older capture, when a newer one was sealed; among them a release that says nothing was sealed."""
    post = Post(bench)
    capture = Capture(bench.system)
    assert capture.end() == "sealed, group"
    sent = [(state, post.orders(capture.capture_id, state)) for state in STATES]
    unsealed = [order.model_copy(update={"sealed_guests": ()}) for order in sent[-1][1]]
    bench.settle()
    bench.exact("a newer capture")
    watch = Watch(bench, "every message of an older capture, after a newer one", "all")
    for state, orders in [*sent, (RunState.RELEASING, unsealed), *reversed(sent)]:
        post.deliver(STEP_OF[state], orders)
    post.again(capture)
    post.delivered()
    watch.quiet("nothing changed")


def test_messages_out_of_order_of_a_capture_that_nobody_knows(bench: Bench) -> None:
    """Release first, then hold, transfer, prepare: as if a host had forgotten the capture, or Redis had kept them too long."""
    post = Post(bench)
    known = Capture(bench.system)
    assert known.end() == "sealed, group"
    bench.settle()
    watch = Watch(bench, "messages of an unknown capture, last ones first", "all")
    unknown = str(ULID())
    update = {"capture_id": unknown, "not_after": datetime.now(UTC) + timedelta(hours=1)}
    for state in reversed(STATES):
        orders = [order.model_copy(update=update) for order in post.orders(known.capture_id, state)]
        post.deliver(STEP_OF[state], orders)
        post.delivered()
    assert bench.manifest(unknown) is None
    watch.quiet("nothing changed")


def test_a_prepare_that_comes_after_its_release(bench: Bench) -> None:
    """Prepared all the same, a guest would stay claimed, with nobody to release it."""
    post = Post(bench)
    known = Capture(bench.system)
    assert known.end() == "sealed, group"
    bench.settle()
    watch = Watch(bench, "prepare delivered after its release", "all")
    update = {"capture_id": str(ULID()), "not_after": datetime.now(UTC) + timedelta(hours=1)}
    newer = {"epoch": int(datetime.now(UTC).timestamp() * 1_000_000)}
    for state in (RunState.RELEASING, RunState.PREPARING):
        orders = [order.model_copy(update=update | newer) for order in post.orders(known.capture_id, state)]
        assert state is RunState.RELEASING or all(isinstance(order, PrepareOrder) for order in orders)
        post.deliver(STEP_OF[state], orders)
        post.delivered()
    watch.quiet("nothing changed")

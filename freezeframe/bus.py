"""How both sides set up Celery and Redis: the same rules for every app on the bus.

JSON only. No gossip and no mingle (gossip runs signatures that it receives). Tasks are acknowledged early: a task that was
begun is never delivered a second time by the broker, because a repeated hold helps nobody; what got lost is found by the
orchestrator's reconciler. Each app keeps what it has not acknowledged under a key of its own, so that one host never
restores another's messages.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import redis
import structlog
from celery import Celery, signals
from celery.backends.redis import RedisBackend
from celery.exceptions import WorkerShutdown

from freezeframe import heartbeat, redis_pool, sentinel, transport
from freezeframe.contract import names
from freezeframe.settings import BusSettings

log = structlog.get_logger("worker")

#: Seconds after which the broker hands out again what nobody acknowledged. The shortest among all apps on one broker wins
#: (celery #5935), hence one value for all; with early acknowledgement only prefetched messages are concerned.
VISIBILITY_TIMEOUT_S = 24 * 3600

#: Seconds that chord results stay in Redis. They are acknowledgements; the results proper are in the run's record.
RESULT_EXPIRES_S = 24 * 3600

#: How often Celery tries again to publish, and to store a result. Each try is four of the pool's (`redis_pool`), so eight
#: time-outs are the most that either takes on a dead connection. Celery's 20 would be seven minutes, of a look at a run or
#: of a thread of a host; what is not stored or sent is found by the reconciler.
RETRY = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 1.0}


class ChordBackend(RedisBackend):  # type: ignore[misc]  # celery has no types
    """Redis as a result backend for chords only: no caller waits for a result here.

    Celery's own subscribes to the result of every task that is sent: when the task is published (`on_task_call`), and when a
    group adds the result to its barrier (`AsyncResult.then`). Nothing reads that connection, so each order left a result
    object, a subscription and 1.8 kB in the orchestrator for ever; and a restart of Redis leaves it beyond repair ("The
    Celery application must be restarted"). [celery/canvas.py _apply_tasks; backends/redis.py; backends/asynchronous.py]
    """

    def on_task_call(self, producer: object, task_id: str) -> None:
        """Do not subscribe."""

    def add_pending_result(self, result: object, **_: object) -> object:
        """Neither keep `result` nor subscribe to it."""
        return result

    def on_result_fulfilled(self, result: object) -> None:
        """Nothing to unsubscribe."""

    def _create_client(self, **_: object) -> redis.Redis:
        pool = redis_pool.named(self.app.conf.broker_transport_options[transport.SHARED_POOL])
        return redis.Redis(connection_pool=pool)


def celery_app(name: str, settings: BusSettings) -> Celery:
    """A Celery app named `name`, which is also the owner of its unacknowledged messages."""
    url = settings.redis_url.get_secret_value()
    # kombu and Celery read user, password and database from a URL, and connect by what the transport tells them
    url = _verified(sentinel.Primary.parse(url).url if sentinel.is_of(url) else url)
    # for a Unix socket redis-py says unix://, kombu redis+socket:// and Celery's backend socket://
    broker = url.replace("unix://", "redis+socket://", 1)
    backend = url.replace("unix://", "socket://", 1)
    app = Celery(name, broker=broker, backend=f"{__name__}:{ChordBackend.__name__}+{backend}", set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_acks_late=False,
        task_create_missing_queues=True,
        task_default_queue=names.ORCHESTRATOR_QUEUE,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=True,
        # kills late-acknowledged tasks at a blip of Redis, which must never happen to a hold
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # MISCONF, OOM, READONLY and NOPERM are answers, not lost connections: without this the first ends the worker
        broker_channel_error_retry=True,
        broker_transport_options=_transport_options(name, settings),
        result_expires=RESULT_EXPIRES_S,
        result_backend_transport_options={"retry_policy": RETRY},
        task_publish_retry_policy=RETRY,
        enable_utc=True,
    )
    return app


def _verified(url: str) -> str:
    """Return `url` such that TLS verifies the server's certificate unless the URL says otherwise.

    redis-py verifies by default. For a plain `rediss://` Celery's backend raises ValueError and kombu verifies nothing.
    [celery/backends/redis.py E_REDIS_SSL_CERT_REQS_MISSING_INVALID; kombu/connection.py `ssl = {'ssl_cert_reqs': CERT_NONE}`]
    """
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url.partition("?")[2]:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _transport_options(name: str, settings: BusSettings) -> dict[str, Any]:
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_connect_timeout": settings.redis_timeout_s,
        # of what waits for messages: it reads only what has come, so this ends no wait, but half a message and a lost answer
        "socket_timeout": settings.redis_timeout_s,
        # of all else; without one a publish on a dead connection waits for ever [kombu transport/redis.py]
        transport.SHARED_POOL: redis_pool.name_of(settings),
        "unacked_key": f"unacked.{name}",
        "unacked_index_key": f"unacked_index.{name}",
        "unacked_mutex_key": f"unacked_mutex.{name}",
    }


def give_back(app: Celery) -> int:
    """Put all messages of an app that were taken and not acknowledged back on their queues; return how many there were.

    A worker that is killed leaves them, and nobody takes them for VISIBILITY_TIMEOUT_S. For apps whose tasks done twice are as
    good as done once: another worker may be at work on some of them. Raises redis and kombu errors.
    """
    with app.connection_for_write() as connection, connection.channel() as channel:
        with channel.conn_or_acquire() as client:
            tags = client.zrange(channel.unacked_index_key, 0, -1)
        for tag in tags:
            channel.qos.restore_by_tag(tag)
    return len(tags)


def run_worker(app: Celery, options: Sequence[str]) -> NoReturn:
    """Run a worker of `app` until it is told to end. Raises SystemExit: 0 if it was told to end, else not 0.

    Celery's own `worker_main` returns nothing, so a worker that ended by itself would report success to its supervisor.
    """
    ended: list[int | None] = []

    def note(sender: Any, **_: object) -> None:
        ended.append(sender.exitcode)

    signals.worker_shutdown.connect(note, weak=False)
    signals.worker_ready.connect(lambda **_: heartbeat.tell_ready(), weak=False)
    app.worker_main(["--quiet", "worker", *options])
    status = ended[-1] if ended else None
    raise SystemExit(1 if status is None else status)


def ends_if_it_fails(begin: Callable[..., None]) -> Callable[..., None]:
    """Return a handler of `worker_ready` that ends the worker if it fails. Celery would log that and go on without it."""

    @functools.wraps(begin)
    def begins(*args: object, **told: object) -> None:
        try:
            begin(*args, **told)
        except Exception as error:
            log.critical("this worker ends: it could not begin", why=str(error), exc_info=error)
            raise WorkerShutdown(1) from error

    return begins


def start_beside(name: str, work: Callable[[], None]) -> threading.Thread:
    """Start what a worker does beside its tasks, in a thread; end the worker if there is none. Return the thread.

    Celery logs what a signal's handler raises and goes on: a worker without its recovery or its reconciler would look well for
    ever. Its supervisor starts another. Raises WorkerShutdown, a SystemExit, which Celery lets through.
    """
    try:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
    except (RuntimeError, MemoryError) as error:
        log.critical("this worker ends: there is no thread for a part of it", part=name, why=str(error))
        raise WorkerShutdown(1) from error
    return thread


def connect(settings: BusSettings, *, retries: int = 3) -> redis.Redis:
    """Return a client for Freezeframe's own keys with connections of its own, which close with it; text in, text out.

    No command blocks for longer than the time-out.
    """
    return redis.Redis.from_pool(redis_pool.make(settings, retries=retries))


def shared_client(settings: BusSettings) -> redis.Redis:
    """Return a client as `connect` does, over the pool that all of this process share."""
    return redis.Redis(connection_pool=redis_pool.shared(settings))

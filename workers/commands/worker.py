"""`freezeframe worker control|data`: a host's two Celery workers."""

from __future__ import annotations

import signal
import warnings
from enum import StrEnum
from typing import Annotated

import redis
import typer
from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_process_init

from freezeframe import bus, eviction, log, redis_fault
from freezeframe.cli import address
from freezeframe.cli.output import out
from freezeframe.client import UnreachableError
from freezeframe.contract import names
from freezeframe.printable import one_line
from freezeframe.settings import BusSettings, HostSettings, load
from freezeframe.supervise import die_with_parent
from workers import binding, budget, descriptors, step_pool

#: Short tasks of one step at once on a host. Each waits most of the time: for an agent, for the barrier, for libvirt.
CONTROL_THREADS = 16
#: Seconds between two heartbeats to Flower; Celery's 2 s is chatter with hundreds of hosts.
HEARTBEAT_S = 10


class Role(StrEnum):
    CONTROL = "control"
    DATA = "data"


def worker(
    role: Annotated[
        Role,
        typer.Argument(
            help="control: prepare, hold, release and the inventory. data: the transfers of disks.", show_default=False
        ),
    ],
    *,
    take_host_id: Annotated[
        bool,
        typer.Option(
            "--take-host-id",
            help="Bind this host's id to this machine, although another had it that is not heard of any more: after this "
            "machine was installed anew, or replaced.",
        ),
    ] = False,
) -> None:
    """Run one of this host's two workers until it is told to end (SIGTERM ends it after the tasks in hand).

    A host's id is bound to its machine. A worker does not start with an id that another machine has. Beside a `freezeframe up`
    with a Redis of its own, `--take-host-id` binds the id there, and runs no worker: `up` has one.
    """
    log.configure()
    if take_host_id and (private := address.private_settings()) is not None:
        _take_beside_up(private)
        return
    setup_logging.connect(_keep_logging)
    # running as root is usual here; that JSON is all a worker accepts is why this is no danger
    warnings.filterwarnings("ignore", category=SecurityWarning)
    settings = load(HostSettings)
    binding.check_chosen(settings)
    # reads the settings and connects signals, which is for this verb only; a package that it lacks is told before Redis is
    # waited for
    from workers.app import app  # noqa: PLC0415

    with bus.connect(load(BusSettings)) as client:
        eviction.check(client)
        binding.Binding(settings, client, binding.this_machine(settings)).check(take=take_host_id)
    descriptors.raise_limit()
    if role is Role.DATA:
        worker_process_init.connect(_die_with_worker)
        budget.keep_to(settings)
        budget.keep_memory()
    configure(app, role)
    bus.run_worker(app, worker_options(role, settings))


def _take_beside_up(private: BusSettings) -> None:
    """Bind this host's id in the Redis of `freezeframe up`, which starts its workers by itself. Raises UnreachableError."""
    settings = load(HostSettings)
    client = bus.connect(private, retries=0)
    try:
        client.ping()
    except redis.RedisError as error:
        raise UnreachableError(
            f"{redis_fault.words_of(error)} It is the one of `freezeframe up`.",
            advice="Start `freezeframe up`, and type this beside it: it goes on while its workers are refused.",
        ) from error
    binding.Binding(settings, client, binding.this_machine(settings)).check(take=True)
    out().print(
        f"The host id {one_line(settings.host_id)} belongs to this machine now. `freezeframe up` starts its workers by itself."
    )


def configure(app: Celery, role: Role) -> None:
    """Set what Celery's options cannot: the control worker's pool, and that it takes orders from its queues without a bound.

    The pool counts if no option names another. The option for the bound takes 0 for none given. [celery/bin/worker.py]
    """
    if role is Role.CONTROL:
        app.conf.worker_pool = step_pool.NAME
        app.conf.worker_prefetch_multiplier = 0


def worker_options(role: Role, settings: HostSettings) -> list[str]:
    """Celery's options for a role."""
    host_id = settings.host_id
    control = f"{names.control_queue(host_id)},{names.hold_queue(host_id)}"
    own = {
        Role.CONTROL: ["-c", str(CONTROL_THREADS), "-Q", control],
        Role.DATA: ["-P", "prefork", "-c", str(settings.transfers), "-Q", names.data_queue(host_id)],
    }
    return [
        *own[role],
        *("-n", f"{role}@{host_id}"),
        *("-E", "--without-gossip", "--without-mingle", "--heartbeat-interval", str(HEARTBEAT_S)),
    ]


def _keep_logging(**_: object) -> None:
    """Celery sets up logging of its own unless somebody says that it is done."""


def _die_with_worker(**_: object) -> None:
    """A transfer whose worker was killed would read on for hours with nobody to report to."""
    die_with_parent(signal.SIGKILL)

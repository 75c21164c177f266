"""A host's id is bound to one machine: two hypervisors with one id would take each other's orders (invariant 9).

    this host's binding   │ Redis's binding                       │ then
    none, or this machine │ none, or this machine                 │ bound to this machine, in both places
    any                   │ another machine, which is up          │ refused: give one of the two another id
    any                   │ another machine, which is down        │ refused, unless it is told to take the id
    another machine       │ any                                   │ the state directory was copied: refused, unless told so

Here it is `<state_dir>/machine.json`; in Redis a key beside the host's inventory entry. A worker looks at both when it starts,
and at Redis's with each entry into the inventory, since Redis may come back empty while two such hosts run.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, cast
from uuid import uuid4

import redis
import structlog
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.machine import Machine
from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.presence import REMEMBERED_S
from freezeframe.settings import HostSettings
from workers import durable

log = structlog.get_logger("binding")

MACHINE_ID: Final = Path("/etc/machine-id")
PRODUCT_UUID: Final = Path("/sys/class/dmi/id/product_uuid")
#: Names that every machine has for itself: as a host's id they are a default, and no choice.
EVERYBODYS: Final = frozenset({"localhost", "localhost.localdomain", "localhost4", "localhost6"})
#: Seconds between two tries to reach Redis, without which a worker can do nothing.
PAUSE_S: Final = 2.0
#: Seconds after which a binding in Redis is renewed; it lasts for `REMEMBERED_S`.
RENEWAL_S: Final = 3600.0

_TAKE = "If that machine is gone, or this is that machine installed anew: freezeframe worker control --take-host-id"


class HostIdTakenError(FreezeframeError):
    """The id is another machine's."""

    code = "host-id-taken"
    exit_code = EXIT_REFUSED


class HostIdMissingError(FreezeframeError):
    """The host's id is one that every machine has."""

    code = "host-id-missing"
    exit_code = EXIT_REFUSED
    advice = "Set FREEZEFRAME_HOST_ID, or host_id in the configuration file, to a name that no other host has."


class Binding:
    """The binding of this host's id to this machine."""

    def __init__(
        self, settings: HostSettings, client: redis.Redis, machine: Machine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host_id = settings.host_id
        self._path = settings.state_dir / "machine.json"
        self.key = names.machine_key(settings.host_id)
        self._redis = client
        self._machine = machine
        self._clock = clock
        self._renewed_at = float("-inf")

    def check(self, *, take: bool = False) -> None:
        """Bind, or find bound, in both places. Waits for a Redis that does not answer. Raises HostIdTakenError."""
        if not take:
            self._check_here()
        while True:
            try:
                self.check_in_redis(take=take)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if isinstance(error, redis.AuthenticationError):
                    break  # the worker meets it next, and tells it
                log.warning("Redis does not answer, which alone knows who has this host's id", why=str(error))
                time.sleep(PAUSE_S)
            except redis.ResponseError as error:
                log.warning("Redis does not say who has this host's id", why=str(error))
                break
            else:
                break
        durable.make_directory(self._path.parent)
        durable.replace(self._path, self._machine.model_dump_json())

    def check_in_redis(self, *, take: bool = False) -> None:
        """Bind, or find bound, in Redis. Raises HostIdTakenError, and redis errors if nobody could say."""
        self.check_found(self._found(), take=take)

    def check_found(self, found: str | None, *, take: bool = False) -> None:
        """Do the same where this binding was found in Redis, or none.

        Called with each entry into the inventory: a binding that is there costs nothing more, and is renewed once an hour.
        """
        text = self._machine.model_dump_json()
        if found is None:
            if self._put(text, only_if_absent=True):
                return
            found = self._found()  # another was faster
        bound = _read(found)
        if bound is None or not bound.is_same(self._machine):
            self._take(bound, text, take=take)
        elif self._clock() - self._renewed_at > RENEWAL_S:
            self._put(text, only_if_absent=False)

    def _found(self) -> str | None:
        return cast("str | None", self._redis.get(self.key))

    def _take(self, bound: Machine | None, text: str, *, take: bool) -> None:
        other = f"machine {bound.name} ({bound.machine_id})" if bound else "a machine whose record cannot be read"
        if bound is not None and self._redis.exists(names.alive_key(self._host_id)):
            raise HostIdTakenError(
                f"The host id {self._host_id} is in use on {other}, and this is another machine, {self._machine.name}.",
                advice="Give one of them an id of its own: set FREEZEFRAME_HOST_ID, or host_id in the configuration file.",
            )
        if not take:
            raise HostIdTakenError(
                f"The host id {self._host_id} belongs to {other}, which has not been heard of lately; this is "
                f"{self._machine.name}.",
                advice=f"Set FREEZEFRAME_HOST_ID to an id of this machine's own. {_TAKE}",
            )
        log.warning("this host's id was taken over", host=self._host_id, before=other)
        self._put(text, only_if_absent=False)

    def _put(self, text: str, *, only_if_absent: bool) -> bool:
        """Return True if the binding was set. A Redis that refuses writes has answered: what it has counts."""
        try:
            put = bool(self._redis.set(self.key, text, nx=only_if_absent, ex=REMEMBERED_S))
        except redis.ResponseError as error:
            log.warning("Redis does not keep whose this host's id is", why=str(error))
            return self._redis.get(self.key) is None
        self._renewed_at = self._clock() if put else self._renewed_at
        return put

    def _check_here(self) -> None:
        text = durable.read(self._path)
        if text is None:
            return
        bound = _read(text)
        if bound is None:
            raise HostIdTakenError(
                f"{self._path} says which machine this state belongs to, and cannot be read.",
                advice="If it is this machine's: freezeframe worker control --take-host-id",
            )
        if not bound.is_same(self._machine):
            raise HostIdTakenError(
                f"The state in {self._path.parent} belongs to machine {bound.name} ({bound.machine_id}), and this is another, "
                f"{self._machine.name} ({self._machine.machine_id}).",
                advice=f"A clone starts with an empty {self._path.parent} and a FREEZEFRAME_HOST_ID of its own. {_TAKE}",
            )


def check_chosen(settings: HostSettings) -> None:
    """Raises HostIdMissingError for a default that every machine has; one that was set is somebody's choice."""
    if settings.host_id in EVERYBODYS and "host_id" not in settings.model_fields_set:
        raise HostIdMissingError(f"This machine calls itself {settings.host_id}, as others do, and no host id is set.")


def this_machine(settings: HostSettings, machine_id: Path = MACHINE_ID, product_uuid: Path = PRODUCT_UUID) -> Machine:
    """Return what this machine is. One without a machine id is given one, kept with the host's state."""
    own = _text(machine_id) or _made(settings.state_dir / "machine-id")
    return Machine(machine_id=own, product_uuid=_text(product_uuid), name=socket.gethostname())


def _made(path: Path) -> str:
    durable.make_directory(path.parent)
    with suppress(FileExistsError):
        durable.create(path, uuid4().hex)
    return path.read_text(encoding="ascii").strip()


def _text(path: Path) -> str | None:
    """The file's text in lower case; None if it cannot be read, or is empty or not made up yet."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip().lower()
    except OSError:
        return None
    return None if text in {"", "uninitialized"} else text


def _read(text: str | None) -> Machine | None:
    try:
        return Machine.model_validate_json(text or "")
    except ValidationError:
        return None


def end_this_worker(error: HostIdTakenError) -> None:
    """Tell this process to end, as its supervisor would: another machine has the id, and both would take its orders."""
    log.error("this worker ends", why=error.message, advice=error.hint)
    os.kill(os.getpid(), signal.SIGTERM)

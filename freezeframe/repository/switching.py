"""Switching a feature on in a repository that is in use, by a step that older programs notice.

    enable:    config with its name, settled ──▶ features/<name>.json, whose time by the store's clock is the switch
    a session: visible ──▶ config read again: a name that is not known ends it

So a session that is younger than the switch has seen the feature; an older one may be of a program that does not know it.
Objects of the new form may be written once no older session, and no older run of garbage collection, is open any more: until
then the feature is *pending*. All times are the store's.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

from pydantic import AwareDatetime

from freezeframe.repository.config import add_feature, read_config
from freezeframe.repository.errors import (
    FeatureNotKnown,
    NewerFormat,
    ObjectNotFound,
    ObjectNotReadable,
    RepositoryFull,
    RepositoryNotWritable,
    SessionDamaged,
    SessionLost,
)
from freezeframe.repository.features import FEATURES
from freezeframe.repository.garbage.record import Records
from freezeframe.repository.layout import CONDEMNED, CONFIG, feature_name, run_id_of
from freezeframe.repository.layout import FEATURES as FEATURES_FOLDER
from freezeframe.repository.notice import Notice
from freezeframe.repository.session import TERM
from freezeframe.repository.store.keeping import check_may_delete
from freezeframe.repository.store_clock import measure, newest_known

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from freezeframe.repository.repository import Repository

#: How often a feature is written into the config before another that is written at the same moment counts as in the way.
_TRIES: Final = 3


class State(StrEnum):
    """The states of a feature that is switched on."""

    OFF = "off"
    PENDING = "pending"
    IN_USE = "in use"


class Switched(Notice):
    """The record that a feature was switched on. When that was, the store says of the object."""

    format: Literal[1] = 1
    feature: str
    host: str
    at: AwareDatetime  # by the host's clock, for people


@dataclass(frozen=True)
class Switch:
    """The state of one feature in a repository."""

    name: str
    state: State
    older: int = 0  # sessions, and runs of garbage collection, that began before the switch and are open

    def __str__(self) -> str:
        return f"pending: {self.older} older sessions are open" if self.state is State.PENDING else self.state.value


def feature_in_use(repository: Repository, name: str) -> bool:
    """Return True if a session that is open may write objects of the feature's form. Raises what reading raises."""
    return switch_of(repository, name).state is State.IN_USE


def switch_of(repository: Repository, name: str) -> Switch:
    """Return how far a feature is switched on. Raises RepositoryUnsupported and what reading raises."""
    if name not in read_config(repository.store.get(CONFIG), repository.address).features:
        return Switch(name, State.OFF)
    if not FEATURES[name].can_be_enabled:
        return Switch(name, State.IN_USE)
    times = {entry.name: entry.modified for entry in repository.store.entries(FEATURES_FOLDER)}
    switched = times.get(feature_name(name))
    if switched is None:  # whoever enabled it has died between the two steps
        return Switch(name, State.PENDING)
    older = _older(repository, switched)
    return Switch(name, State.PENDING if older else State.IN_USE, older)


def enable(repository: Repository, name: str) -> Switch:
    """Switch a feature on, durably when this returns. Twice is once.

    Raises DeletesRefused, FeatureNotKnown, RepositoryNotWritable, ConfigChanged and what reading raises.
    """
    check_may_delete(repository.store, f"repo feature enable {name}")
    feature = FEATURES.get(name)
    if feature is None:
        raise FeatureNotKnown(f"This version knows no feature {name!r}.")
    if not feature.can_be_enabled:
        raise FeatureNotKnown(f"The feature {name} is given by `freezeframe repo init`, or never.", advice="")
    _write_config(repository, name)
    if switch_of(repository, name) == Switch(name, State.PENDING):
        record = Switched(feature=name, host=socket.gethostname(), at=repository.sessions.clock())
        place = feature_name(name)
        repository.store.put(place, BytesIO(record.stored(repository.objects, place)))
    return switch_of(repository, name)


def _write_config(repository: Repository, name: str) -> None:
    """Write the name into the config. There is no lock: who writes looks afterwards whether it is there."""
    for _ in range(_TRIES):
        repository.check_there()
        data = repository.store.get(CONFIG)
        if name in read_config(data, repository.address).features:
            return
        repository.store.put(CONFIG, BytesIO(add_feature(data, repository.address, name, repository.keys)))
    if name not in read_config(repository.store.get(CONFIG), repository.address).features:
        raise RepositoryNotWritable(f"The config of {repository.address} is written by somebody else at the same time.")


def _older(repository: Repository, switched: datetime) -> int:
    """Return how many sessions, and runs of garbage collection, of before that moment are open, by the store's clock."""
    ends = [*_ends_of_sessions(repository, switched), *_ends_of_runs(repository, switched)]
    if not ends:
        return 0
    now = _store_time(repository)
    return sum(end is None or now <= end for end in ends)


def _store_time(repository: Repository) -> datetime:
    """Return the store's time; at least that of its newest object where nothing can be put."""
    try:
        return measure(repository.store, repository.sessions.clock).theirs
    except (RepositoryFull, RepositoryNotWritable):
        return newest_known(repository.store)


def _ends_of_sessions(repository: Repository, switched: datetime) -> Iterator[datetime | None]:
    """Yield when each session that began before and has not ended expires; None for one that cannot be read."""
    for session_id, stored_at in repository.sessions.stored_at().items():
        if stored_at > switched:
            continue
        try:
            session = repository.sessions.load(session_id).by_store(stored_at, stored_at)
        except SessionLost:
            continue
        except (NewerFormat, SessionDamaged, ObjectNotReadable):
            yield None
        else:
            if session.ended_at is None:
                yield session.expires_at


def _ends_of_runs(repository: Repository, switched: datetime) -> Iterator[datetime | None]:
    """Yield when each run that began before and has not finished ends itself; None for one that cannot be read."""
    records = Records(repository.objects)
    for entry in list(repository.store.entries(CONDEMNED)):
        run_id = run_id_of(entry.name)
        if run_id is None or entry.modified > switched:
            continue
        try:
            record = records.load(run_id).by_store(entry.modified)
        except ObjectNotFound:
            continue
        except (NewerFormat, SessionDamaged, ObjectNotReadable):
            yield None
        else:
            if record.finished_at is None:
                yield record.begun_at + TERM

"""Condemned objects, for readers: a reader may still need one, so it looks in every run of garbage collection.

    own name ─▶ each run ─▶ own name          once with the runs that are remembered, then with a new list of them, twice

An object moves from its own name into a run, from a run that was never finished into another, and back to its own name. So
the own name is looked at first and last, and a run that died before one that took it over. To slip through all of this an
object would have to move six times while it is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from freezeframe.repository.errors import ObjectNotFound
from freezeframe.repository.layout import CONDEMNED, condemned_name, run_id_of

if TYPE_CHECKING:
    from freezeframe.repository.store.backend import Store

FoundT = TypeVar("FoundT")

#: Seconds for which a list of runs is used for a first look: a reader that misses many chunks does not list for each.
_REMEMBERED_S: Final = 5.0

_NEW_LISTS: Final = 2


class Condemned:
    """Finds objects under their own names or in a run. Any thread may call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: tuple[list[str], float] | None = None

    def find(self, name: str, look: Callable[[str], FoundT]) -> FoundT:
        """Return the result of `look` for the object called `name`, under any name that it has. Raises ObjectNotFound."""
        try:
            return look(name)
        except ObjectNotFound as error:
            first = error
        for number in range(1 + _NEW_LISTS):
            for place in [*(condemned_name(run, name) for run in self._known(new=number > 0)), name]:
                with suppress(ObjectNotFound):
                    return look(place)
        raise first

    def runs(self) -> list[str]:
        """The ids of all runs that have a record, oldest first. Raises RepositoryNotReadable."""
        return sorted(run for name in self._store.names(CONDEMNED) if (run := run_id_of(name)) is not None)

    def places(self, name: str) -> list[str]:
        """Return where each run would have the object of that name. Raises RepositoryNotReadable."""
        return [condemned_name(run, name) for run in self._known(new=True)]

    def _known(self, *, new: bool) -> list[str]:
        now = time.monotonic()
        if new or self._runs is None or now - self._runs[1] > _REMEMBERED_S:
            self._runs = (self.runs(), now)
        return self._runs[0]

"""A store that refuses to give some objects, or all, while it lists and moves them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import Entry, always
from freezeframe.repository.store.fault import not_readable


class Refusing(MemoryStore):
    """Refuses objects: those in `refused`, all while it is `away`, and those for whose name `refusal` returns an error."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.refused: dict[str, bool] = {}  # transient or not
        self.away = False
        self.refusal: Callable[[str], Exception | None] = lambda _: None
        self.asked: list[str] = []  # objects that were read, and folders that were listed
        self._moving = False

    def get(self, name: str) -> bytes:
        self._ask(name)
        return super().get(name)

    def open(self, name: str) -> BinaryIO:
        self._ask(name)
        return super().open(name)

    def names(self, folder: str) -> Iterator[str]:
        self.asked.append(folder)
        return super().names(folder)

    def entries(self, folder: str) -> Iterator[Entry]:
        self.asked.append(folder)
        return super().entries(folder)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        self._moving = True  # a rename reads nothing
        super().move(name, to, allowed)
        self._moving = False

    def _ask(self, name: str) -> None:
        if self._moving:
            return
        self.asked.append(name)
        if self.away or name in self.refused:
            raise RepositoryNotReadable(f"Reading {name} failed.", transient=self.refused.get(name, True))
        error = self.refusal(name)
        if error is not None:
            raise error


def refused_with(number: int, name: str) -> RepositoryNotReadable:
    """Return the error of a store whose file system says that of an object."""
    cause = OSError(number, os.strerror(number))
    error = not_readable(name, cause)
    error.__cause__ = cause
    return error

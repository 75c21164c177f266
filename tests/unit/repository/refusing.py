"""A store that refuses some objects, or all, while it lists them."""

from __future__ import annotations

from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.store import MemoryStore


class Refusing(MemoryStore):
    """A store that refuses to give some objects, or all."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, bool] = {}  # transient or not
        self.away = False

    def get(self, name: str) -> bytes:
        if self.away or name in self.refused:
            raise RepositoryNotReadable(f"Reading {name} failed.", transient=self.refused.get(name, True))
        return super().get(name)

"""Stores: where the objects of a repository are kept.

An *object* is bytes under a *name* that looks like a path (`chunks/ab/ab01…`); its *folder* is the name without the last
part. It is *visible* when a reader finds it, *durable* when a power cut cannot take its bytes away, and *settled* when
its name is as durable as its bytes. `Store` says what every backend promises, and one conformance suite holds each backend
to it.
"""

from freezeframe.repository.store.backend import Entry, Store
from freezeframe.repository.store.directory import DirectoryStore
from freezeframe.repository.store.memory import MemoryStore

__all__ = ["DirectoryStore", "Entry", "MemoryStore", "Store"]

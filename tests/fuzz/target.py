"""A reader that is fuzzed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from freezeframe.repository import zstd
from freezeframe.repository.document import checksum_of
from freezeframe.repository.errors import NewerFormat, RepositoryDamaged
from tests.fuzz.twist import twisted

Mutate = Callable[[bytes], bytes]
Mend = Callable[[bytes, Mutate, Random], bytes]


@dataclass(frozen=True)
class Target:
    """`check` raises for a finding. `mend` makes a mutated input pass what guards the reader; `mutate` is the fuzzer's own."""

    name: str
    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], None]
    mend: Mend

    def mended(self, data: bytes, mutate: Mutate, chance: Random) -> bytes:
        """What `mend` makes of the input or, if nothing can be made of that any more, of a seed; else a mutation as it is."""
        for one in (data, chance.choice(self.seeds())):
            with suppress(ValueError, TypeError, RecursionError, RepositoryDamaged, NewerFormat, zstd.ZstdError):
                return self.mend(one, mutate, chance)
        return mutate(data)


def mend_document(data: bytes, mutate: Mutate, chance: Random, **bound: str) -> bytes:
    """The document with a value that is another, and a checksum that is right."""
    content = json.loads(data)
    if not isinstance(content, dict):
        raise TypeError("no document")
    changed = content
    while changed == content:
        changed = twisted(content, chance, mutate)
    with suppress(ValueError, TypeError):  # of what has no canonical form
        changed["checksum"] = checksum_of({**changed, **bound})
    return json.dumps(changed).encode()

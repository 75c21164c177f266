"""The audit of an incremental: is what it inherits what the disk has? (invariant 7)

A chunk that is not dirty keeps the digest of the parent's index. The proofs of the disk and of its bitmap say that this is
right, and the audit looks. So it also finds differences that no proof covers: an image overwritten in place, an offline tool
that passes bitmaps by, a disk that was made smaller and larger again, a defect of our own.

    not dirty    export    parent's index    looked at
                 data      chunk or hole     16 of them by chance, read and compared
                 zeros     hole              some of them too, if there are fewer than 16 others
                 zeros     chunk             never both true: found at once, without reading

Sixteen chunks miss a disk of which a tenth differs once in five times, one of which half differs once in 65,000 times.
"""

from __future__ import annotations

from random import Random
from typing import Final

from freezeframe.errors import EXIT_DAMAGED, FreezeframeError
from workers.steps.sample import Sample

#: Chunks that are read again, of each disk: 8 MiB at 512 KiB, for 7 to 10 ms of processor time (measured, eight transfers of a
#: disk of 1 GiB with 1 % dirty, whatever the disk's size).
CHUNKS: Final = 16


class InheritedDiffersError(FreezeframeError):
    """The disk is not what its older capture has of it, although nothing says that it has changed."""

    code = "inherited-differs"
    exit_code = EXIT_DAMAGED
    advice = "Nothing is to be done for this capture: the disk is read in full."


class Audit:
    """Which inherited chunks of one disk are read again, and what came of it. Not for several threads at once."""

    def __init__(self, chance: Random | None = None) -> None:
        self._data = Sample(CHUNKS, chance)
        self._zeros = Sample(CHUNKS, chance)

    def inherit(self, slots: range, *, data: bool) -> None:
        """Note slots that are kept; `data`: the export does not say that they read as zeros."""
        (self._data if data else self._zeros).offer(slots)

    def slots(self) -> list[int]:
        """The slots to read, in order."""
        data, zeros = self._data.chosen, self._zeros.chosen
        return sorted([*data, *zeros[: CHUNKS - len(data)]])

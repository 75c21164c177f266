"""What the bench guest's disk holds: a third text, a third incompressible, a third half zeros that repeats, then a long hole.

    0                  1480 MiB             2960 MiB             4440 MiB                       8 GiB
    │ text (about 4:1) │ random             │ 32 KiB random,     │ never written                  │
    │                  │                    │ 32 KiB zeros, …    │                                │

The last third is eight MiB again and again, as whatever was copied on a disk is: what deduplication is for, and a
peer without it is not spared. Or it does not repeat: then no two chunks are alike, and deduplication is no part of the figures.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
#: The usual disk, of which some benches have a multiple.
DISK_MIB = 8192
THIRD_MIB = 1480
PAGE = 4096
_WORDS = 3000
_BASE_MIB = 8
#: MiB that the last third is made of, if it repeats.
_REPEATED_MIB = 8


def make(path: Path, third_mib: int = THIRD_MIB, disk_mib: int = DISK_MIB, *, repeats: bool = False) -> None:
    """Make the disk as a qcow2 at `path`; the same bytes in kind each time, never the same bytes."""
    raw = path.with_suffix(".raw")
    with raw.open("wb") as file:
        for make_mib in kinds(repeats=repeats).values():
            for _ in range(third_mib):
                file.write(make_mib())
        file.truncate(disk_mib * MIB)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()


def kinds(*, repeats: bool = False) -> dict[str, Callable[[], bytes]]:
    """The kinds of data on the disk, in order; each gives a new MiB at every call, but for a last third that repeats."""
    base = _text(_BASE_MIB)
    pages = [base[at : at + PAGE] for at in range(0, len(base), PAGE)]
    again = itertools.cycle([_half_zeros() for _ in range(_REPEATED_MIB)])
    return {
        "text": lambda: b"".join(random.choices(pages, k=MIB // PAGE)),
        "random": lambda: os.urandom(MIB),
        "half zeros": (lambda: next(again)) if repeats else _half_zeros,
    }


def _half_zeros() -> bytes:
    return b"".join(os.urandom(MIB // 32) + bytes(MIB // 32) for _ in range(16))


def _text(size_mib: int) -> bytes:
    """Lines of made-up words, with the skew of a language: what compresses about four to one."""
    words = ["".join(random.choices("etaoinshrdlu", k=random.randint(2, 10))) for _ in range(_WORDS)]
    weights = [1 / (rank + 1) for rank in range(_WORDS)]
    text = bytearray()
    while len(text) < size_mib * MIB:
        text += " ".join(random.choices(words, weights, k=20000)).encode() + b"\n"
    return bytes(text[: size_mib * MIB])

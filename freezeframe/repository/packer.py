"""Packing: a chunk's bytes made smaller by zstd, or left as they are because that does not pay.

Each thread keeps one context a level: making one for every chunk takes a tenth of the time of a chunk that does not compress.
"""

from __future__ import annotations

import threading
from typing import Final

from freezeframe.repository import zstd
from freezeframe.repository.effort import OFF, STEPS

#: What compressing must save, as a part of the chunk: less is not worth a decompression at every restore.
_WORTH: Final = 64

#: Levels from here on are slow for what does not compress, too (half a GB/s at 9; 4 at 1 and 2), so a sample is tried
#: first. Not below: there the sample would cost more than it saves.
_SAMPLED_FROM: Final = 6
_SAMPLES: Final = 4
_SAMPLE_BYTES: Final = 16 << 10
#: A sample that keeps more than this of its length is of something incompressible.
_HOPELESS: Final = 0.97

_contexts: Final = threading.local()


def pack(data: bytes | memoryview, level: int) -> bytes | None:
    """One zstd frame that states its content size, or None if the data should be stored raw. Releases the GIL."""
    if level == OFF:
        return None
    if level >= _SAMPLED_FROM and not _promising(data):
        # not raw: what the sample missed the lowest level still finds, at 4 GB/s
        level = STEPS[0]
    packed = _compress(data, level)
    return packed if len(packed) < len(data) - len(data) // _WORTH else None


def _promising(data: bytes | memoryview) -> bool:
    """Whether samples from all over the data shrink."""
    if len(data) <= _SAMPLES * _SAMPLE_BYTES:
        return True
    view, step = memoryview(data), (len(data) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    sample = b"".join(view[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
    return len(_compress(sample, STEPS[0])) < _HOPELESS * len(sample)


def _compress(data: bytes | memoryview, level: int) -> bytes:
    context = _context(level)
    try:
        # given all at once, and ended by the same call, so that the frame states its content size
        return context.compress(data, context.FLUSH_FRAME)
    except BaseException:
        _contexts.__dict__.clear()  # it may be in the middle of a frame
        raise


def _context(level: int) -> zstd.ZstdCompressor:
    """This thread's context. Only the last level's is kept beside the lowest's: a high one has tens of MiB."""
    kept: dict[int, zstd.ZstdCompressor] = _contexts.__dict__.setdefault("kept", {})
    context = kept.get(level)
    if context is None:
        for other in [one for one in kept if one != STEPS[0]]:
            del kept[other]
        context = kept[level] = zstd.ZstdCompressor(level)
    return context

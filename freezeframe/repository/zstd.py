"""Zstandard: the standard library's from Python 3.14 on, its backport before."""

from __future__ import annotations

import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
        compress,
        decompress,
        get_frame_info,
    )
else:
    from backports.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
        compress,
        decompress,
        get_frame_info,
    )

#: For every decompressor here: a frame may ask for a window of 16 MiB, the longest chunk, and no more. What a frame asks for is
#: allocated before anything of it is verified; without a bound that is 128 MiB.
BOUNDED: Final[dict[int, int]] = {DecompressionParameter.window_log_max: 24}

__all__ = [
    "BOUNDED",
    "CompressionParameter",
    "DecompressionParameter",
    "ZstdCompressor",
    "ZstdDecompressor",
    "ZstdError",
    "compress",
    "decompress",
    "get_frame_info",
]

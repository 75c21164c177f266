"""Verification: is what captures refer to still there, and still what was written?

A *tier* is how closely to look; a *look* is one chunk or index looked at, twice if it seems damaged. What is damaged is *set
aside*: moved to `damaged/`, so that the next capture writes it anew; a *review* puts back what is sound, and takes away what
has been repaired. A *folder* of chunks is those whose names begin alike; a *record* says when one was last verified, and a
*share* is the folders that have waited longest.

    tier        every chunk …                                               costs
    present     has an object that is longer than a header                  one stat a chunk
    decodable   and its envelope decrypts, and decompresses to its length   reading and decompressing
    rehashed    and has the digest that it is known by                      and SHA-256
    restored    and each disk, restored, reads back as its index says       and room for its data

    review ─▶ captures, or a share of all folders ─▶ look ─▶ damaged? set aside ─▶ report: damage, and every place it is in

Indexes are small and are verified in full at every tier. docs/repository.md has the order of it all, and who clears what.
"""

from freezeframe.repository.verify.captures import verify
from freezeframe.repository.verify.folders import parse_share, verify_share
from freezeframe.repository.verify.report import CHUNK_TIERS, Damage, Progress, Tier, VerifyReport
from freezeframe.repository.verify.restored import CapturedDisk, Rehearsal, Rehearsed, verify_restored

__all__ = [
    "CHUNK_TIERS",
    "CapturedDisk",
    "Damage",
    "Progress",
    "Rehearsal",
    "Rehearsed",
    "Tier",
    "VerifyReport",
    "parse_share",
    "verify",
    "verify_restored",
    "verify_share",
]

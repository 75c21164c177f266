"""What the writers in a guest say of themselves; the writer is kit/guest/workload."""

from dataclasses import dataclass
from typing import Self

#: Where the writers keep what must not be on a captured disk.
FOLDER = "/run/workload"


@dataclass(frozen=True)
class Record:
    """One record, durable by the time it is known. Times are the guest's uptime in seconds, to a hundredth."""

    seq: int
    before_s: float
    after_s: float

    @classmethod
    def parse(cls, text: str) -> list[Self]:
        """Each whole line: the last one may be in the writing."""
        records = []
        for line in text.rpartition("\n")[0].splitlines():
            seq, before, after = line.split()
            records.append(cls(int(seq), float(before), float(after)))
        return records


def disk_log(text: str) -> list[tuple[int, float]]:
    """(seq, uptime before) of each whole record in /mnt/vdX/log; a torn last line has not been acknowledged."""
    whole, _, _ = text.rpartition("\n")
    pairs = (line.split() for line in whole.splitlines())
    return [(int(seq), float(uptime)) for seq, uptime in pairs]

"""`ops/bench`: one verb a bench."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.lab.daemon import PASSABLE
from ops.measure import (
    barrier,
    compression,
    garbage,
    hold,
    incremental,
    memory,
    orchestrate,
    restore,
    s3,
    throughput,
    verification,
)
from ops.measure.failed import CaptureFailedError
from ops.measure.send_buffer import send_buffer

_MEMORY = Path("/dev/shm")  # noqa: S108
#: A disk, where /tmp may be memory.
_PLACE = Path("/var/tmp")  # noqa: S108  each bench makes a new directory in it

app = typer.Typer(help="Benches: ours beside peers and floors, from one run.", no_args_is_help=True)

AsJson = Annotated[
    bool, typer.Option("--json", help="Only the JSON object, as the last line; the course goes to stderr.")
]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds; the best of each contestant counts.")]


@app.callback()
def benches() -> None:
    """Typer makes sub-verbs only of more than one command, or with a callback."""


@app.command("throughput")
def throughput_verb(
    rounds: Rounds = 3,
    repeats: Annotated[
        bool,
        typer.Option(
            "--repeats/--unlike", help="Whether a third of the disk's data repeats, or no two chunks are alike."
        ),
    ] = True,
    times: Annotated[int, typer.Option(min=1, help="A disk of that many times 8 GiB.")] = 2,
    send_buffer_kib: Annotated[
        int,
        typer.Option(
            "--send-buffer",
            metavar="KIB",
            min=0,
            help="Let this machine's sockets hold so much meanwhile (net.core.wmem_default), as README asks of hypervisors; "
            "0 leaves it as it is.",
        ),
    ] = 2048,
    as_json: AsJson = False,
) -> None:
    """A full capture beside virtnbdbackup, qemu-img, the simple loop and the roofline."""
    with send_buffer(send_buffer_kib) as held, _directory() as directory:
        figures = throughput.run(directory, rounds, times, _teller(as_json=as_json), repeats=repeats)
        _show({**figures, "send_buffer_bytes": held})


@app.command("restore")
def restore_verb(rounds: Rounds = 5, as_json: AsJson = False) -> None:
    """A restore from a local repository beside qemu-img convert from a local qcow2, both durable at the end."""
    with _directory() as directory:
        _show(restore.run(directory, rounds, _teller(as_json=as_json)))


@app.command("incremental")
def incremental_verb(
    rounds: Annotated[int, typer.Option(min=1, help="Incrementals upon each full; the median counts.")] = 3,
    chunk_kib: Annotated[list[int] | None, typer.Option(help="Chunk sizes in KiB; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """A full, and incremental captures with 1 % of scattered 64 KiB blocks dirty, for each chunk size."""
    with _directory() as directory:
        _show(incremental.run(directory, rounds, chunk_kib or incremental.CHUNKS_KIB, _teller(as_json=as_json)))


@app.command("compression")
def compression_verb(
    sample_mib: Annotated[int, typer.Option(min=1, help="MiB of each kind of data.")] = 24, as_json: AsJson = False
) -> None:
    """What each level of zstd costs and saves, by kind of data and chunk size, in one thread."""
    _show(compression.run(sample_mib, _teller(as_json=as_json)))


@app.command("hold")
def hold_verb(
    rounds: Annotated[int, typer.Option(min=2, help="Captures of each size.")] = 12,
    size: Annotated[list[int] | None, typer.Option(help="Guests captured together; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold windows beside the floor: the same bare libvirt calls with a barrier within one process."""
    with _directory() as directory:
        _show(hold.run(directory, rounds, size or hold.SIZES, _teller(as_json=as_json)))


@app.command("barrier")
def barrier_verb(
    rounds: Annotated[int, typer.Option(min=2, max=250, help="Meetings of each size.")] = 50, as_json: AsJson = False
) -> None:
    """From the last host's arrival to the last wake-up: 10, 100 and 1,000 hosts on one Redis."""
    _show(barrier.run(rounds, _teller(as_json=as_json)))


@app.command("orchestrate")
def orchestrate_verb(
    hosts: Annotated[list[int] | None, typer.Option(min=1, help="Hosts of ten guests; may be repeated.")] = None,
    manifests: Annotated[
        list[int] | None, typer.Option(min=1, help="Captures in the history; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small: 10 and 100 guests, 100 captures.")] = False,
    place: Annotated[
        Path, typer.Option(help="Where to make journals and repositories: memory, if there are 8 GB.")
    ] = _MEMORY,
    as_json: AsJson = False,
) -> None:
    """The control plane: Redis and orchestrator a guest from 10 to 10,000, 1,000 idle hosts, plans beside 15,000 captures."""
    with _directory(place) as directory:
        small = orchestrate.QUICK if quick else orchestrate.WHOLE
        sizes = replace(small, hosts=tuple(hosts or small.hosts), manifests=tuple(manifests or small.manifests))
        _show(orchestrate.run(directory, sizes, _teller(as_json=as_json)))


@app.command("gc")
def gc_verb(
    chunks: Annotated[list[int] | None, typer.Option(help="Chunks in the repository; may be repeated.")] = None,
    place: Annotated[Path, typer.Option(help="Where to make it; a file for each chunk.")] = _PLACE,
    as_json: AsJson = False,
) -> None:
    """Forget and garbage collection: seconds, seconds a chunk and peak of memory, for 10 thousand to a million chunks."""
    with _directory(place) as directory:
        _show(garbage.run(directory, chunks or garbage.SIZES, _teller(as_json=as_json)))


@app.command("verify")
def verify_verb(
    tib: Annotated[list[int] | None, typer.Option(min=1, help="Disks of 1 TiB each; may be repeated.")] = None,
    captures: Annotated[int, typer.Option(min=1, help="Captures of all disks.")] = verification.CAPTURES,
    as_json: AsJson = False,
) -> None:
    """Reading all indexes, as verify, repo check and gc do: microseconds a slot and a chunk, reads and peak of memory."""
    with _directory() as directory:
        _show(verification.run(directory, tib or verification.SIZES_TIB, captures, _teller(as_json=as_json)))


@app.command("memory")
def memory_verb(
    rounds: Rounds = 2,
    size_gib: Annotated[list[int] | None, typer.Option(help="A disk's size in GiB; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """The peak memory of a transfer and the time to open a capture, from 1 GiB to 1 TiB, plain and encrypted."""
    with _directory() as directory:
        _show(memory.run(directory, rounds, tuple(size_gib or memory.SIZES_GIB), _teller(as_json=as_json)))


@app.command("s3")
def s3_verb(
    disks: Annotated[list[int] | None, typer.Option(help="Disks captured together; may be repeated.")] = None,
    delay_ms: Annotated[
        list[int] | None, typer.Option(help="Milliseconds by which each request is delayed; may be repeated.")
    ] = None,
    disk_mib: Annotated[int, typer.Option(min=16, help="MiB of random data on each disk.")] = s3.DISK_MIB,
    chunk_kib: Annotated[int | None, typer.Option(help="KiB of a chunk; a repository's own choice unasked.")] = None,
    rounds: Rounds = 2,
    place: Annotated[Path, typer.Option(help="Where to make disks and storage, three times their size.")] = _PLACE,
    as_json: AsJson = False,
) -> None:
    """A full, an incremental and a restore with object storage on this machine, and 30 ms away from it."""
    with _directory(place) as directory:
        delays, counts = delay_ms or s3.DELAYS_MS, disks or s3.DISKS
        _show(s3.run(directory, delays, counts, disk_mib, _teller(as_json=as_json), chunk_kib, rounds))


def _teller(*, as_json: bool) -> Callable[[str], None]:
    """Tells the course; on stderr if only the JSON object is wanted on stdout."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr if as_json else sys.stdout, flush=True)

    return say


@contextmanager
def _directory(place: Path = _PLACE) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ff-bench-", dir=place))
    directory.chmod(PASSABLE)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _show(result: dict[str, Any]) -> None:
    print(json.dumps(result))


def main() -> None:
    """Run a bench. A capture in it that fails is told with its faults, without the way of the program to it.

    A bench that is terminated takes its lab down first, as one that is interrupted does.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except CaptureFailedError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

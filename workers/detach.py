"""Detaching a guest: take every trace of ours off it, whether it runs or not, for good.

    claim ─▶ refused while a capture has the guest; one of our own keeps captures out meanwhile
    guest ─▶ a backup of ours without a capture · checkpoints of all repositories · bitmaps that have none
    host  ─▶ scratch files that are left · the claim of a capture that has ended

The traces are looked for first, without QEMU's monitor: the use of it would mark the guest as tainted. Another detach completes
one that was interrupted; recovery drops its claim. Captures in the repository stay as they are; the next one is a full one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from ulid import ULID

from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from workers.claims import GuestClaimedError
from workers.host import Host
from workers.hypervisor import backup, bitmaps, checkpoint, lost
from workers.hypervisor.domain import Domain
from workers.journal import ClaimChange

log = structlog.get_logger("detach")

#: Seconds for qemu-img to follow a chain of backing files.
_CHAIN_S = 60.0


@dataclass
class Traces:
    """The traces of captures on one guest, and those that could not be removed."""

    guest: str
    guest_uuid: str
    state: str
    backup: str | None = None  # the socket of a backup that no capture knows any more
    checkpoints: list[str] = field(default_factory=list)
    bitmaps: dict[str, list[str]] = field(default_factory=dict)  # by image; of QEMU's memory under the name of its node
    scratch: list[str] = field(default_factory=list)
    claim: str | None = None  # of a capture that has ended
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.backup or self.checkpoints or self.bitmaps or self.scratch or self.claim)


def look(host: Host, domain: Domain) -> Traces:
    """Return the traces on a guest; changes nothing. Raises GuestClaimedError while a capture has the guest in hand."""
    claim = _ended_claim(host, domain)
    socket = backup.current_socket(domain)
    chain = [path for image in checkpoint.image_paths(domain) for path in _chain(image)]
    return Traces(
        guest=domain.name,
        guest_uuid=domain.uuid,
        state=domain.state(),
        backup=str(socket) if socket is not None and _is_ours(host, domain) else None,
        checkpoints=sorted(name for name in checkpoint.names(domain) if bitmaps.is_ours(name)),
        bitmaps={str(path): names for path, names in bitmaps.ours_in(dict.fromkeys(chain)).items()},
        scratch=[str(path) for path in _scratch_files(host, domain.uuid)],
        claim=claim,
    )


def remove(host: Host, domain: Domain, traces: Traces) -> None:
    """Remove the traces; what cannot be removed is told in `traces.problems`, and the rest goes all the same."""
    if traces.claim is not None:
        host.claims.drop(domain.uuid, traces.claim)
    with _claimed(host, domain):
        if traces.backup is not None:
            _try(traces, partial(backup.end, domain, Path(traces.backup)))
        for name in traces.checkpoints:
            _try(traces, partial(checkpoint.delete, domain, name))
        _try(traces, partial(_remove_bitmaps, domain, traces))
        if backup.current_socket(domain) is None or not _is_ours(host, domain):
            for path in map(Path, traces.scratch):
                _try(traces, partial(_remove_file, path))


def _try(traces: Traces, act: Callable[[], object]) -> None:
    try:
        act()
    except (FreezeframeError, OSError) as error:
        log.warning("a trace stays", guest=traces.guest, why=str(error))
        traces.problems.append(str(error))


def _remove_bitmaps(domain: Domain, traces: Traces) -> None:
    """Remove those that have no checkpoint: the others went with theirs."""
    with_checkpoint = set(checkpoint.names(domain))
    if not domain.active():
        for path, names in bitmaps.ours_in(map(Path, traces.bitmaps)).items():
            gone = set(names) - with_checkpoint
            _try(traces, partial(bitmaps.remove_from_images, [path], gone))
        return
    for node, name in lost.own_bitmaps(domain):
        if name not in with_checkpoint:
            _try(traces, partial(domain.monitor, "block-dirty-bitmap-remove", node=node, name=name))


def _ended_claim(host: Host, domain: Domain) -> str | None:
    """Return the claim of a capture that has ended. Raises GuestClaimedError for one that has not."""
    holder = host.claims.holder(domain.uuid)
    if holder is None or host.journal.of(holder).ended:
        return holder
    raise GuestClaimedError(
        f"Capture {holder} has guest {domain.name} in hand.",
        holder=holder,
    )


@contextmanager
def _claimed(host: Host, domain: Domain) -> Iterator[None]:
    """Keep captures away from the guest. A journal of our own lets recovery drop the claim if this process dies."""
    own = str(ULID())
    journal = host.journal.of(own)
    with journal.lock(Step.RELEASE, ""):  # recovery leaves it alone meanwhile
        journal.record(ClaimChange(guest_uuid=domain.uuid))
        try:
            host.claims.take(domain.uuid, own)
            yield
        finally:
            host.claims.drop(domain.uuid, own)
            journal.end()


def _is_ours(host: Host, domain: Domain) -> bool:
    return any(path.is_relative_to(host.settings.scratch_dir) for path in backup.scratch_files(domain))


def _scratch_files(host: Host, guest_uuid: str) -> Sequence[Path]:
    return sorted(host.settings.scratch_dir.glob(f"*/{guest_uuid}.*"))


def _remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _chain(image: Path) -> list[Path]:
    """Return an image and its backing files: a snapshot that was taken after a capture leaves the bitmap below."""
    command = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", str(image)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CHAIN_S, check=True)
        return [Path(one["filename"]) for one in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return [image]

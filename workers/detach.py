"""Detaching a guest: take every trace of ours off it, whether it runs or not, for good.

    claim ─▶ refused while a capture has the guest; one of our own keeps captures out meanwhile
    guest ─▶ a backup of ours without a capture · checkpoints of all repositories · bitmaps that have none
    host  ─▶ scratch files that are left · the claim of a capture that has ended

The traces are looked for first, without QEMU's monitor: the use of it would mark the guest as tainted. Another detach completes
one that was interrupted; recovery drops its claim. Captures in the repository stay as they are; the next one is a full one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
from ulid import ULID

from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError
from workers import stored_bitmaps
from workers.claims import GuestClaimedError
from workers.host import Host
from workers.hypervisor import backup, bitmaps, checkpoint, lost
from workers.hypervisor.domain import Domain
from workers.journal import ClaimChange

log = structlog.get_logger("detach")


@dataclass
class Traces:
    """The traces of captures on one guest, and those that could not be removed."""

    guest: str
    guest_uuid: str
    state: str
    backup: str | None = None  # the socket of a backup that no capture knows any more
    checkpoints: list[str] = field(default_factory=list)
    bitmaps: dict[str, list[str]] = field(default_factory=dict)  # by image
    unread: dict[str, str] = field(default_factory=dict)  # images that may have some, with what is told of each
    scratch: list[str] = field(default_factory=list)
    claim: str | None = None  # of a capture that has ended
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return True if there are traces, or may be."""
        return bool(self.backup or self.checkpoints or self.bitmaps or self.unread or self.scratch or self.claim)


def look(host: Host, domain: Domain) -> Traces:
    """Return the traces on a guest; changes nothing. Raises GuestClaimedError while a capture has the guest in hand."""
    claim = _ended_claim(host, domain)
    socket = backup.current_socket(domain)
    stored = stored_bitmaps.look(domain)
    unread = {str(one.image): one.told(domain.name, runs=domain.active()) for one in stored.unread}
    scratch, unseen = _scratch_files(host, domain)
    return Traces(
        guest=domain.name,
        guest_uuid=domain.uuid,
        state=domain.state(),
        backup=str(socket) if socket is not None and _is_ours(host, domain) else None,
        checkpoints=sorted(name for name in checkpoint.names(domain) if bitmaps.is_ours(name)),
        bitmaps={str(path): names for path, names in stored.by_image.items()},
        unread=unread,
        scratch=[str(path) for path in scratch],
        claim=claim,
        problems=[*unread.values(), *unseen],
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
    """Remove those that have no checkpoint: the others went with theirs.

    The QEMU of a guest that runs has them all in memory, those of images that could not be read too.
    """
    with_checkpoint = set(checkpoint.names(domain))
    if not domain.active():
        for image, names in traces.bitmaps.items():
            _try(traces, partial(bitmaps.remove_from_images, [Path(image)], set(names) - with_checkpoint))
        return
    found = lost.own_bitmaps(domain)
    traces.problems = [one for one in traces.problems if one not in traces.unread.values()]
    for node, name in found:
        if name not in with_checkpoint:
            if traces.unread:
                traces.bitmaps.setdefault(f"node {node} of its QEMU", []).append(name)
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


def _scratch_files(host: Host, domain: Domain) -> tuple[Sequence[Path], Sequence[str]]:
    """Return the guest's scratch files; and what is told of those that cannot be looked for."""
    try:  # Path.glob passes over what it may not read
        folders = [one for one in host.settings.scratch_dir.iterdir() if one.is_dir()]
        return sorted(path for one in folders for path in one.iterdir() if path.name.startswith(f"{domain.uuid}.")), ()
    except FileNotFoundError:  # nothing was captured on this host, or a capture takes its directory away just now
        return (), ()
    except OSError as error:
        why = f"{error.strerror or error} at {error.filename}"
        return (), (
            f"Scratch files of guest {domain.name} cannot be looked for: {why}. Detach again when root can read that.",
        )


def _remove_file(path: Path) -> None:
    path.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()

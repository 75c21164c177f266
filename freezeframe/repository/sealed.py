"""Whether a capture is sealed, asked before it is given up: a repository that is not there has no manifests either.

A seal may be at work that nobody hears of any more: it hangs in a network file system. So "no" alone is no answer to act upon.

who seals      session open? ─▶ manifest visible ─▶ session failed? then the manifest is taken back
who gives up   no manifest ─▶ session ended as failed ─▶ still no manifest: there never will be one (`final_manifest`)

Whichever of the two comes first, the other sees it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from freezeframe.repository.catalog import Catalog
from freezeframe.repository.errors import CaptureNotFound, SealUndecided
from freezeframe.repository.layout import MANIFESTS

if TYPE_CHECKING:
    from freezeframe.repository.manifest import DiskCapture, Manifest
    from freezeframe.repository.repository import Repository


def sealed_manifest(repository: Repository, capture_id: str) -> Manifest | None:
    """Return the manifest of a sealed capture; None only if this very repository is there, and has none of it.

    It is durable when this returns: who has put it there may have failed to settle it. Raises RepositoryNotWritable if it
    cannot be settled, ManifestUnreadable for one that is there and damaged or newer, RepositoryNotFound if the repository is
    gone with its mount, and other repository errors.
    """
    if repository.is_sealed(capture_id):
        with suppress(CaptureNotFound):  # forgotten, or taken back, since
            manifest = Catalog(repository.objects).load(capture_id)
            repository.store.settle([MANIFESTS])
            return manifest
    repository.check_there()
    return None


def final_manifest(repository: Repository, capture_id: str) -> Manifest | None:
    """Return the manifest of a sealed capture; None only if it is not sealed and never will be: its session is ended as failed.

    Raises SealUndecided if it was sealed just then; what keeps the session from being ended; and as `sealed_manifest`.
    """
    manifest = sealed_manifest(repository, capture_id)
    if manifest is None:
        repository.sessions.end(capture_id, sealed=False)
        if sealed_manifest(repository, capture_id) is not None:
            raise SealUndecided(f"Capture {capture_id} was sealed while it was given up.")
    return manifest


def check_index(repository: Repository, disk: DiskCapture) -> None:
    """Check the index of a disk as the seal does. Raises IndexDamaged, NewerFormat and what reading raises."""
    Catalog(repository.objects).check_index(disk)

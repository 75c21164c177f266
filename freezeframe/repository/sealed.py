"""Whether a capture is sealed, asked before it is given up: a repository that is not there has no manifests either."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from freezeframe.repository.catalog import Catalog
from freezeframe.repository.config import read_config
from freezeframe.repository.errors import CaptureNotFound, ObjectNotFound, RepositoryNotFound
from freezeframe.repository.layout import CONFIG, MANIFESTS

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
    check_there(repository)
    return None


def check_index(repository: Repository, disk: DiskCapture) -> None:
    """Check the index of a disk as the seal does. Raises IndexDamaged, NewerFormat and what reading raises."""
    Catalog(repository.objects).check_index(disk)


def check_there(repository: Repository) -> None:
    """Raises RepositoryNotFound for an empty mount point, or another repository; ConfigDamaged, RepositoryUnsupported."""
    try:
        data = repository.store.get(CONFIG)
    except ObjectNotFound as error:
        raise RepositoryNotFound(f"The repository at {repository.address} is not there any more.") from error
    if read_config(data, repository.address).id != repository.config.id:
        raise RepositoryNotFound(f"Another repository than before is at {repository.address}.")

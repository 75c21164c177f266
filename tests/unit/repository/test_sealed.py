"""A capture without a manifest is told from a repository that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import (
    ConfigDamaged,
    ManifestDamaged,
    ObjectNotFound,
    RepositoryError,
    RepositoryNotFound,
)
from freezeframe.repository.sealed import sealed_manifest
from tests.unit.repository.samples import CHUNK, disk_capture, disk_of, manifest_of, store_disk


def test_a_sealed_capture_is_its_manifest_and_another_is_none(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path / "repository", chunk_bytes=CHUNK)
    manifest = manifest_of(1, disk_capture(store_disk(repository, disk_of(b"a")), CHUNK))
    assert sealed_manifest(repository, manifest.capture_id) is None
    repository.write_manifest(manifest)
    assert sealed_manifest(repository, manifest.capture_id) == manifest
    assert sealed_manifest(repository, manifest_of(2).capture_id) is None
    Path(repository.address, repository.objects.protection.manifest_name(manifest.capture_id)).write_bytes(b"{}")
    with pytest.raises(ManifestDamaged):
        sealed_manifest(repository, manifest.capture_id)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [("unmounted", RepositoryNotFound), ("another", RepositoryNotFound), ("damaged", ConfigDamaged)],
)
def test_without_this_repository_nobody_knows(tmp_path: Path, trouble: str, error: type[RepositoryError]) -> None:
    root = tmp_path / "repository"
    repository = Repository.init(root, chunk_bytes=CHUNK)
    if trouble == "damaged":
        (root / "config").write_bytes(b"{")
    else:
        root.rename(tmp_path / "elsewhere")
        root.mkdir()
        if trouble == "another":
            Repository.init(root)
    with pytest.raises(error):
        sealed_manifest(repository, manifest_of(1).capture_id)


def test_a_manifest_that_is_taken_back_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.init(tmp_path / "repository")
    monkeypatch.setattr(Repository, "is_sealed", lambda *_: True)
    with pytest.raises(ObjectNotFound):
        repository.objects.manifest(manifest_of(1).capture_id)
    assert sealed_manifest(repository, manifest_of(1).capture_id) is None

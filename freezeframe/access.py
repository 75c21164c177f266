"""Opening the repository that the settings name, with the secret that they name: how services come to it.

Only paths of secrets are in settings. A secret is read when a repository turns out to have keys, and is in no argument, no
environment variable and no log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret
from freezeframe.repository.expected import Expected
from freezeframe.repository.store.address import open_store
from freezeframe.settings import RepositorySettings, S3Settings, load


@dataclass(frozen=True)
class ConfiguredKey:
    """The key file or the passphrase file of the settings, or neither."""

    key_file: Path | None = None
    passphrase_file: Path | None = None

    @classmethod
    def of(cls, settings: RepositorySettings) -> ConfiguredKey:
        return cls(settings.key_file, settings.passphrase_file)

    @property
    def expected(self) -> bool:
        return self.key_file is not None or self.passphrase_file is not None

    def secret(self) -> Secret | None:
        """Raises SecretUnusable."""
        if self.key_file is not None:
            return Secret.key_file(self.key_file)
        return None if self.passphrase_file is None else Secret.passphrase_file(self.passphrase_file)


def expected_of(settings: RepositorySettings) -> Expected:
    """Return what the settings expect of the repository."""
    return Expected(settings.repository_id, settings.repository_encrypted, settings.repository_authenticated)


def open_repository(s3: S3Settings | None = None) -> Repository:
    """`s3` in place of the settings, for object storage. Raises SettingsError, and what `Repository.open` raises."""
    settings = load(RepositorySettings)
    store = open_store(settings.repository, s3, deletes=settings.repository_deletes)
    return Repository.open_in(store, ConfiguredKey.of(settings), expected_of(settings))


def make_default_parent(settings: RepositorySettings) -> None:
    """Make the directory above the default repository. Where somebody chose a place, a missing one is a missing mount."""
    if "repository" not in settings.model_fields_set:
        # beside it may be scratch files, to which QEMU's user must pass
        Path(settings.repository).parent.mkdir(mode=0o711, parents=True, exist_ok=True)

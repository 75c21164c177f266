"""A repository: its store, its config, its keys if it has some, and the doors to what is in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from ulid import ULID

from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.catalog import LATEST, Catalog
from freezeframe.repository.config import DEFAULT_CHUNK_BYTES, Config, is_authentic, read_config, sealed_config
from freezeframe.repository.crypto import NO_KEY, KeySlots, Suite, new_master
from freezeframe.repository.crypto.keys import Keys
from freezeframe.repository.errors import (
    AlreadyExists,
    CaptureNotFound,
    ConfigChanged,
    DeletesRefused,
    KeyNotConfigured,
    ManifestUnreadable,
    NotEncrypted,
    ObjectNotFound,
    RepositoryExists,
    RepositoryFull,
    RepositoryNotFound,
    RepositoryNotReadable,
    SealedAfterFailure,
    SealedTooLate,
)
from freezeframe.repository.index import check_began, load_index
from freezeframe.repository.layout import CONFIG, digest_of
from freezeframe.repository.objects import Objects
from freezeframe.repository.protection import PLAIN, Sealed
from freezeframe.repository.reader import DiskReader
from freezeframe.repository.session import MARGIN, Sessions
from freezeframe.repository.store.address import create_store, open_store
from freezeframe.repository.store.keeping import check_may_delete
from freezeframe.repository.suspects import Suspects
from freezeframe.repository.whole import is_whole
from freezeframe.repository.writer import DiskWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from freezeframe.repository.catalog import Memory
    from freezeframe.repository.crypto import KeySource, Secret
    from freezeframe.repository.crypto.kdf import Kdf
    from freezeframe.repository.effort import Effort
    from freezeframe.repository.expected import Expected
    from freezeframe.repository.index import Index
    from freezeframe.repository.lineage import Lineages, Link
    from freezeframe.repository.manifest import Manifest
    from freezeframe.repository.store.backend import Store


class Repository:
    """Many processes on many hosts may have one repository open, and write to it, at once. Any thread may call."""

    def __init__(
        self, store: Store, config: Config, keys: Keys | None = None, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.store = store
        self.config = config
        self.objects = Objects(store, Sealed(keys, config.suite) if keys and config.suite else PLAIN)
        self.sessions = Sessions(self.objects, clock, self.check_there)
        self.suspects = Suspects(self.objects)
        self.keys = keys
        self._catalog = Catalog(self.objects)

    @classmethod
    def open(cls, address: str | Path, keys: KeySource = NO_KEY, *expected: Expected) -> Self:
        """Return the repository at a path, a `file://` URL or `s3://bucket/prefix`.

        `keys` is asked for its secret only if that has keys and is what is `expected`.

        Raises RepositoryNotFound, RepositoryUnsupported (a version or feature that this program does not know) and
        ConfigDamaged; WrongRepository and NotEncrypted for another than is expected; if it has keys KeyNotConfigured,
        SecretUnusable, WrongKey, KeySlotDamaged and ConfigChanged; if it has not, and should, NotEncrypted or ConfigChanged;
        RepositoryNotReadable if what tells that cannot be read.
        """
        return cls.open_in(open_store(address), keys, *expected)

    @classmethod
    def open_in(cls, store: Store, keys: KeySource = NO_KEY, *expected: Expected) -> Self:
        try:
            data = store.get(CONFIG)
        except ObjectNotFound as error:
            raise RepositoryNotFound(f"There is no repository at {store.address}.") from error
        config = read_config(data, store.address)
        for one in expected:
            one.check(config, store.address)
        if config.authenticated:
            return cls(store, config, _unlock(store, data, config, keys))
        _check_meant_plain(store, config, keys)
        return cls(store, config)

    @classmethod
    def init(
        cls,
        address: str | Path,
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        secret: Secret | None = None,
        suite: Suite = Suite.ENCRYPTED,
        label: str = "",
    ) -> Self:
        """A new repository at a path or `file://` URL that is an empty directory or is not there; its parent must be.

        Or at `s3://bucket/prefix` with nothing under the prefix; the bucket must be there.

        `chunk_bytes`: the default for its disks, a power of two from 4 KiB to 16 MiB. With a `secret` it has keys, its
        objects are sealed as `suite` says, and its first key slot, with that label, opens with it.

        Raises RepositoryExists, RepositoryNotWritable, ValueError.
        """
        store = create_store(address, authenticated=secret is not None)
        return cls.init_in(store, chunk_bytes=chunk_bytes, secret=secret, suite=suite, label=label)

    @classmethod
    def init_in(
        cls,
        store: Store,
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        secret: Secret | None = None,
        suite: Suite = Suite.ENCRYPTED,
        label: str = "",
        kdf: Kdf | None = None,
    ) -> Self:
        if secret is None:
            config, keys = Config(id=uuid4(), chunk_bytes=chunk_bytes), None
        else:
            keys = Keys.of(new_master())
            config = sealed_config(uuid4(), chunk_bytes, keys, suite)
            # before the config: a repository that exists can be opened
            KeySlots(store, config.id).add(keys, secret, label, kdf)
        try:
            store.put_if_absent(CONFIG, config.to_json())
        except AlreadyExists as error:
            raise RepositoryExists(f"There is a repository at {store.address}.") from error
        return cls(store, config, keys)

    @property
    def encryption(self) -> tuple[KeySlots, Keys]:
        """The key slots, and the keys that they are changed with. Raises NotEncrypted."""
        if self.keys is None:
            raise NotEncrypted(f"The repository at {self.address} is not encrypted, and has no key slots.", advice="")
        return KeySlots(self.store, self.config.id), self.keys

    def check_there(self) -> None:
        """Read the config again. A program that has the repository open notices so what others have switched on.

        Raises RepositoryNotFound for an empty mount point, or another repository; ConfigDamaged, RepositoryUnsupported; and
        ConfigChanged if somebody without the keys has written it.
        """
        try:
            data = self.store.get(CONFIG)
        except ObjectNotFound as error:
            raise RepositoryNotFound(f"The repository at {self.address} is not there any more.") from error
        if read_config(data, self.address).id != self.config.id:
            raise RepositoryNotFound(f"Another repository than before is at {self.address}.")
        if self.keys is not None and not is_authentic(data, self.keys):
            raise ConfigChanged(f"The config of {self.address} was changed by somebody without the repository's key.")

    @property
    def lineages(self) -> Lineages:
        return self._catalog.lineages

    def link(self, capture_id: str) -> Link | ManifestUnreadable | None:
        """Return the place of a listed manifest among all; why it alone cannot be read; or None if it is gone."""
        return self._catalog.link(capture_id)

    @property
    def address(self) -> str:
        return self.store.address

    def disk_writer(
        self,
        size_bytes: int,
        chunk_bytes: int | None = None,
        *,
        parent_index_digest: str | None = None,
        parent_checkpoint: str | None = None,
        checkpoint: str | None = None,
        effort: Effort | None = None,
    ) -> DiskWriter:
        """A writer for a disk: all holes, or a copy of the parent's index (its digest in hex) for an incremental.

        `parent_checkpoint`, if it is known, is the one since which changes are told; the parent's index must have begun it.
        It compresses as hard as `effort` says, by default as the processors can afford.

        Raises IndexDamaged and ParentUnfit for the parent: then capture in full.
        """
        size = chunk_bytes or self.config.chunk_bytes
        if parent_index_digest is None:
            return DiskWriter(self.objects, IndexBuilder(size_bytes, size, checkpoint=checkpoint), effort)
        parent = self.index(parent_index_digest)
        try:
            check_began(parent, parent_checkpoint)
            builder = IndexBuilder(size_bytes, size, parent=parent, checkpoint=checkpoint)
        except BaseException:
            parent.close()
            raise
        return DiskWriter(self.objects, builder, effort, parent)

    def index(self, digest: str) -> Index:
        """A disk's index by its digest in hex, verified; close it after use. Raises IndexDamaged."""
        return load_index(self.objects, digest_of(digest))

    def disk_reader(self, index_digest: str) -> DiskReader:
        """A reader for the disk with that index. Raises IndexDamaged."""
        return DiskReader(self.objects, digest_of(index_digest))

    def manifests(self, on_damaged: Callable[[ManifestUnreadable], None] | None = None) -> list[Manifest]:
        """Return every capture, newest first.

        Raises ManifestUnreadable at the first that cannot be read, or gives each of them to `on_damaged`.
        """
        return list(self._catalog.each(on_damaged))

    def each_manifest(
        self, on_damaged: Callable[[ManifestUnreadable], None] | None = None, memory: Memory | None = None
    ) -> Generator[Manifest, None, None]:
        """As `manifests`, with a few in memory at a time. One that `memory` has is not read again."""
        return self._catalog.each(on_damaged, memory)

    def stored_at(self) -> dict[str, datetime]:
        """When each capture's manifest was stored, by the store's clock."""
        return self._catalog.stored_at()

    def capture_ids(self) -> list[str]:
        """The ids of all captures, newest first; reads no manifest."""
        return self._catalog.capture_ids()

    def capture_id(self, wanted: str) -> str:
        """The id of the capture that `manifest` would read, which need not be readable. Raises CaptureNotFound."""
        return self._catalog.resolve(wanted)

    def manifest(self, wanted: str) -> Manifest:
        """Return the capture with that id, the only one that begins so, or `latest`.

        Raises CaptureNotFound, ManifestUnreadable. `latest` is never an older capture because the latest cannot be read.
        """
        try:
            return self._catalog.load(self._catalog.resolve(wanted))
        except ManifestUnreadable as error:
            if wanted == LATEST:
                error.hint = f"{error.hint} `freezeframe captures` lists the others: name one by its id."
            raise

    @contextmanager
    def session(self, program: str, session_id: str | None = None) -> Iterator[str]:
        """A session for as long as the block lasts, for a writer without an orchestrator; its id, which is to be the capture's.

        Begin it before anything is looked for, and seal in it.
        """
        begun = self.sessions.begin(session_id or str(ULID()), program).session_id
        try:
            yield begun
        finally:
            self.sessions.end(begun, sealed=self.is_sealed(begun))

    def seal(self, manifest: Manifest) -> None:
        """Seal a capture that has a session of its id: when this returns it exists, durably. The same manifest twice is once.

        One that is visible too late is sealed if all is there that it refers to: another may have sealed it in time, and told.
        Raises SessionLost if something was collected meanwhile; then it does not exist. Raises ClockDrift before anything is
        written. Else as `write_manifest`.
        """
        self._put(manifest, manifest.capture_id, self._catalog.write, self._catalog.delete)

    def adopt(self, manifest: Manifest, data: bytes, session_id: str) -> None:
        """Put the manifest of a capture that was sealed in the repository of which this is a copy.

        `session_id`: whoever copies has that session here. `data`: the manifest's bytes there, which stay as they are. Raises
        as `seal`, and AlreadyExists for another manifest of that id.
        """
        self._put(manifest, session_id, lambda _: self._catalog.adopt(manifest, data), self._catalog.take_away)

    def _put(
        self, manifest: Manifest, session_id: str, put: Callable[[Manifest], bool], take_back: Callable[[str], None]
    ) -> None:
        self.check_there()
        measured = self.sessions.measure()
        session = self.sessions.check(session_id, MARGIN, looked_at=measured.theirs)
        made = put(manifest)
        try:
            visible_at = self.sessions.measure_again(measured)
            self.sessions.check_sealed(session, measured.theirs, visible_at=visible_at)
        except SealedTooLate as error:
            if not isinstance(error, SealedAfterFailure) and self._is_kept(manifest):
                return
            if made:
                self._take_back(manifest.capture_id, take_back, error)
            raise

    def _take_back(self, capture_id: str, take_back: Callable[[str], None], error: SealedTooLate) -> None:
        """Take a manifest away that this process has just put, and that may not stay; else have the error say so."""
        try:
            check_may_delete(self.store, "forget")
        except DeletesRefused:
            error.hint = (
                "Its manifest is still there, because this machine takes nothing away, and data of it may be missing: run "
                f"`freezeframe forget {capture_id}` on the machine that does retention."
            )
        else:
            take_back(capture_id)

    def _is_kept(self, manifest: Manifest) -> bool:
        """Return True if all is there that a visible manifest refers to, and it was not forgotten meanwhile."""
        return is_whole(self.objects, manifest) and self.is_sealed(manifest.capture_id)

    def write_manifest(self, manifest: Manifest) -> None:
        """Seal a capture in a repository in which nobody collects garbage meanwhile. The same manifest twice is once.

        Raises IndexDamaged if an index is missing or of another disk, AlreadyExists for a different manifest of that id.
        """
        self._catalog.write(manifest)

    def forget(self, capture_id: str) -> None:
        """Delete a capture's manifest, for good when this returns; garbage collection frees what it alone referred to.

        Raises CaptureNotFound, and nothing once it is deleted.
        """
        check_may_delete(self.store, "forget")
        if not self.is_sealed(capture_id):
            raise CaptureNotFound(f"There is no capture {capture_id} in {self.address}.")
        self._catalog.delete(capture_id)
        self.suspects.clear([capture_id])

    def forget_all(self, capture_ids: Iterable[str]) -> tuple[str, ...]:
        """As `forget` for each, oldest first, made to last together. One that is not there, or no more, is no error.

        Returns the reasons why marks of these captures may be left.
        """
        check_may_delete(self.store, "forget")
        wanted = list(capture_ids)
        self._catalog.delete(*wanted)
        return self.suspects.clear(wanted)

    def is_sealed(self, capture_id: str) -> bool:
        """Return True if the capture's manifest is visible."""
        return self.store.exists(self.objects.protection.manifest_name(capture_id))

    def check_writable(self) -> None:
        """Raises RepositoryNotWritable or RepositoryFull."""
        self.store.check_writable()

    def check_space(self, wanted_bytes: int) -> None:
        """Raises RepositoryFull if the store knows that there is less room than `wanted_bytes`."""
        free_bytes = self.store.free_bytes()
        if free_bytes is not None and free_bytes < wanted_bytes:
            raise RepositoryFull(
                f"The repository at {self.address} has {free_bytes >> 20} MiB free; {wanted_bytes >> 20} MiB are wanted."
            )


def _unlock(store: Store, data: bytes, config: Config, source: KeySource) -> Keys:
    secret = source.secret()
    if secret is None:
        raise KeyNotConfigured(f"The repository at {store.address} is {_word(config)}, and no key is configured.")
    keys = KeySlots(store, config.id).open(secret)
    if not is_authentic(data, keys):
        raise ConfigChanged(f"The config of {store.address} was changed by somebody without the repository's key.")
    return keys


def _word(config: Config) -> str:
    return "encrypted" if config.encrypted else "authenticated"


def _check_meant_plain(store: Store, config: Config, source: KeySource) -> None:
    """Refuse a config from which somebody may have taken the keys away: captures would be written in the clear."""
    if source.expected:
        raise NotEncrypted(
            f"A key is configured, and the repository at {store.address} is not encrypted, nor authenticated."
        )
    says = f"The config of {store.address} says that it has no keys"
    try:
        has_slots = KeySlots(store, config.id).exist()
    except RepositoryNotReadable as error:
        raise RepositoryNotReadable(
            f"{says}, and whether there are key slots cannot be found out: {error.message}", transient=error.transient
        ) from error
    if has_slots:
        raise ConfigChanged(f"{says}, but it has key slots.")

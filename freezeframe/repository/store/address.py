"""From an address, as a user writes it, to a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from freezeframe.missing import need_extra
from freezeframe.repository.errors import RepositoryExists, RepositoryNotFound, RepositoryUnsupported
from freezeframe.repository.layout import FEATURES, KEYS, TMP, folder_of, folders, is_object, is_of_the_file_system
from freezeframe.repository.store.directory import DirectoryStore
from freezeframe.repository.store.fault import reading, writing
from freezeframe.repository.store.filesystem import Filesystem
from freezeframe.repository.store.keeping import Keeping
from freezeframe.repository.store.patience import Patience
from freezeframe.repository.store.retrying import Retrying
from freezeframe.settings import S3Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezeframe.repository.store.backend import Store
    from freezeframe.repository.store.s3 import S3Store


#: The folders in which `init` and a copy put something before the config: a crash may leave it there.
_BEFORE_CONFIG: Final = frozenset({FEATURES, KEYS, TMP})


def open_store(
    address: str | Path, s3: S3Settings | None = None, patience: Patience | None = None, *, deletes: bool = True
) -> Store:
    """Return the store at a path, a `file://` URL or `s3://bucket/prefix`, of which nothing is asked yet.

    `s3`: how to reach object storage, if not as the settings say. `patience`: with it, if not as those say; a
    directory has none of ours, its file system waits. Without `deletes` nothing is taken away (`keeping.py`).

    Raises RepositoryNotFound, RepositoryUnsupported and SettingsError.
    """
    store = _opened(address, s3, patience)
    return store if deletes else Keeping(store)


def _opened(address: str | Path, s3: S3Settings | None, patience: Patience | None) -> Store:
    if _is_s3(address):
        return _bucket(str(address), s3 or load(S3Settings), patience)[1]
    root = _directory(address)
    if not root.is_dir():
        raise RepositoryNotFound(f"There is no directory {root}.")
    return DirectoryStore(root)


def is_same_place(one: str | Path, other: str | Path) -> bool:
    """Return True if two addresses lead to the same place, however each is written: a slash more, a link, a URL.

    A directory that cannot be reached is compared by its path. Raises RepositoryUnsupported for no address.
    """
    if _is_s3(one) or _is_s3(other):
        return _is_s3(one) and _is_s3(other) and _bare(str(one)) == _bare(str(other))
    first, second = _directory(one), _directory(other)
    try:
        return first.samefile(second)
    except OSError:
        return _resolved(first) == _resolved(second)


def is_within(inner: str | Path, outer: str | Path) -> bool:
    """Return True if an address leads to a place below the other one. Raises RepositoryUnsupported for no address."""
    if _is_s3(inner) or _is_s3(outer):
        if not (_is_s3(inner) and _is_s3(outer)):
            return False
        parts, above = _bare(str(inner)), _bare(str(outer))
        return len(parts) > len(above) and parts[: len(above)] == above
    return Path(_resolved(_directory(outer))) in Path(_resolved(_directory(inner))).parents


def spellings(address: str) -> tuple[str, ...]:
    """Return the addresses under which the store at `address` is known: this one, and without the links in its path."""
    if not address.startswith("/"):
        return (address,)
    return tuple(dict.fromkeys([address, _resolved(Path(address))]))


def patience_with(address: str | Path) -> Patience:
    """Return the patience of what a user or a guest waits for, by the settings. Raises SettingsError."""
    return Patience(load(S3Settings).s3_patience_s if _is_s3(address) else 0)


def transfer_patience(address: str | Path) -> Patience:
    """Return the patience of what takes hours, by the settings. Raises SettingsError."""
    return Patience(load(S3Settings).s3_transfer_patience_s if _is_s3(address) else 0)


def create_store(
    address: str | Path,
    filesystem: Filesystem | None = None,
    *,
    authenticated: bool = False,
    s3: S3Settings | None = None,
) -> Store:
    """An empty store with all its folders, durable; `authenticated` adds the one for key slots. `s3` as for `open_store`.

    Its parent must exist: one that does not is a mount that is missing. In object storage there are no folders to make; that
    the server has what writing needs is found out. May be called again after a crash. Raises RepositoryExists if something
    else is there, also what is left of a repository that has lost its config; RepositoryNotWritable, RepositoryUnsupported.
    """
    if _is_s3(address):
        return _create_in_bucket(str(address), s3 or load(S3Settings))
    root = _directory(address)
    with reading(root):
        found = [entry.name for entry in root.iterdir()] if root.is_dir() else []
    _expect_empty(str(root), found)
    fs = filesystem or Filesystem()
    with writing(root):
        fs.make_folder(root)
        names = folders(authenticated=authenticated)
        for name in names:
            fs.make_folder(root / name)
        for parent in [root.parent, root, *sorted({root / folder_of(name) for name in names if "/" in name})]:
            fs.fsync_folder(parent)
    store = DirectoryStore(root, fs)
    _expect_no_remains(store, found)
    return store


def _create_in_bucket(address: str, settings: S3Settings) -> Store:
    store, tried = _bucket(address, settings, None)
    found = store.top()
    _expect_empty(store.address, found)
    _expect_no_remains(tried, found)
    tried.check_writable()
    return tried


def _expect_empty(place: str, found: Iterable[str]) -> None:
    """Raise RepositoryExists for anything but the folders that `init` makes, and makes again after a crash.

    What the file system has put there by itself is left alone.
    """
    ours = {name for name in folders(authenticated=True) if "/" not in name}
    strange = sorted(name for name in set(found) - ours if not is_of_the_file_system(name))
    if strange:
        raise RepositoryExists(f"{place} is not empty: {strange[0]} is there.")


def _expect_no_remains(store: Store, found: Iterable[str]) -> None:
    """Raise RepositoryExists for a repository that has lost its config. A new one there would take all that for garbage.

    `found`: the names at its top. What is written before a config is no such thing.
    """
    present = set(found) - _BEFORE_CONFIG
    for folder in folders(authenticated=False):
        if folder.partition("/")[0] not in present:
            continue
        name = next(filter(is_object, store.names(folder)), None)
        if name is not None:
            raise RepositoryExists(
                f"{store.address} has no config, and {name} is there: it is a repository that has lost its config.",
                advice="Bring back `config` from a copy or a backup. To make a new repository, name an empty place.",
            )


def _is_s3(address: str | Path) -> bool:
    return isinstance(address, str) and address.startswith("s3://")


def _bucket(address: str, settings: S3Settings, patience: Patience | None) -> tuple[S3Store, Store]:
    """Return the store in a bucket, bare and with patience. The library is an extra, so it is imported only for this."""
    try:
        from freezeframe.repository.store.s3 import S3Store  # noqa: PLC0415
        from freezeframe.repository.store.s3_client import S3Access, S3Address  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RepositoryUnsupported(
            f"The Python module {error.name} is not installed.",
            advice=f"A repository in object storage needs a package more. {need_extra('s3')}",
        ) from error
    parsed = S3Address.parse(address)
    patience = patience or Patience(settings.s3_patience_s)
    access = S3Access(parsed, settings)
    store = S3Store(access.connect(), str(parsed), patience, access.connect, access.listings())
    return store, Retrying(store, patience)


def _bare(address: str) -> list[str]:
    return [part for part in address.split("/") if part]


def _resolved(path: Path) -> str:
    return "/" + os.path.realpath(path).lstrip("/")  # two slashes at the beginning are kept, and are one


def _directory(address: str | Path) -> Path:
    if isinstance(address, Path):
        return address.absolute()
    parts = urlsplit(address)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    if "://" in address:
        raise RepositoryUnsupported(
            f"{address} is no address that this program knows.",
            advice="Give a path, a file:// URL or s3://bucket/prefix.",
        )
    return Path(address).absolute()

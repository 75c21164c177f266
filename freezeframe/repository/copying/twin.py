"""The copy as a repository: made with the config and the key slots of its source, and recognised by them."""

from __future__ import annotations

import shlex
from io import BytesIO
from typing import TYPE_CHECKING

from freezeframe.repository.config import is_authentic, read_config
from freezeframe.repository.copying.errors import NotACopy, SameRepository
from freezeframe.repository.crypto.slot import parse_slot
from freezeframe.repository.errors import (
    AlreadyExists,
    ConfigChanged,
    KeySlotDamaged,
    NewerFormat,
    ObjectNotFound,
    RepositoryExists,
    RepositoryNotFound,
    RepositoryNotReadable,
)
from freezeframe.repository.features import FEATURES as KNOWN
from freezeframe.repository.layout import CONFIG, FEATURES, KEYS, is_object, session_name
from freezeframe.repository.refusal import check_alone
from freezeframe.repository.repository import Repository
from freezeframe.repository.store.address import is_same_place, is_within

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from freezeframe.repository.config import Config
    from freezeframe.repository.store.backend import Store


def check_elsewhere(source: str, destination: str) -> None:
    """Raise SameRepository if two addresses lead to one place, or one of them into the other."""
    if is_same_place(source, destination):
        raise SameRepository(f"{destination} is the repository that is to be copied.")
    if is_within(destination, source) or is_within(source, destination):
        raise SameRepository(f"Of {source} and {destination} one lies within the other.")


def check_other(copy: Repository, session_id: str) -> None:
    """Raise SameRepository if the copy shows the session that was begun at the source: a mount or an alias leads to both."""
    if copy.store.exists(session_name(session_id)):
        raise SameRepository(f"{copy.address} is the repository that is to be copied, under another address.")


def open_copy(store: Store, source: Repository, clock: Callable[[], datetime] | None = None) -> Repository:
    """Return the copy of `source` in a store. No secret is asked for: it opens with the keys of its source.

    Raises RepositoryNotFound if there is no repository, and NotACopy, ConfigChanged, ConfigDamaged or RepositoryUnsupported.
    """
    try:
        data = store.get(CONFIG)
    except ObjectNotFound as error:
        raise RepositoryNotFound(
            f"There is no repository at {store.address}.",
            advice="If the file system is mounted: --create makes the copy.",
        ) from error
    config = read_config(data, store.address)
    _check_twin(store.address, config, source)
    if source.keys is not None and not is_authentic(data, source.keys):
        raise ConfigChanged(
            f"The config of {store.address} was written by somebody without the key of {source.address}."
        )
    return Repository(store, config, source.keys, clock)


def create_copy(store: Store, source: Repository, clock: Callable[[], datetime] | None = None) -> Repository:
    """Make an empty store a copy of `source` without captures. Twice is once.

    The config is put last: a repository that exists can be opened. A key slot that alone cannot be read is passed over
    (`slots_not_copied`). Raises RepositoryExists.
    """
    source.check_there()
    config = source.store.get(CONFIG)
    if source.config.authenticated:
        _copy_slots(source, store)
    for name in filter(is_object, source.store.names(FEATURES)):
        store.put(name, BytesIO(source.store.get(name)))
    try:
        store.put_if_absent(CONFIG, config)
    except AlreadyExists as error:
        if store.get(CONFIG) != config:
            raise RepositoryExists(f"There is a repository at {store.address}.") from error
    return open_copy(store, source, clock)


def slots_not_copied(source: Repository, copy: Repository) -> list[str]:
    """Return a sentence for each key slot of the source that a copy which was just made has not."""
    if not source.config.authenticated:
        return []
    command = f"FREEZEFRAME_REPOSITORY={shlex.quote(copy.address)} freezeframe key add copy"
    missing = sorted(set(_slots(source.store)) - set(_slots(copy.store)))
    return [
        f"{source.address}/{name} could not be read, so its secret does not open the copy. `{command}` adds one there."
        for name in missing
    ]


def _copy_slots(source: Repository, store: Store) -> None:
    """Copy the key slots, once: later each side has its own. One that was removed since an earlier try is taken away.

    Raises RepositoryNotReadable if none can be read.
    """
    refused: RepositoryNotReadable | None = None
    copied = set()
    for name in _slots(source.store):
        try:
            data = source.store.get(name)
        except ObjectNotFound:
            continue  # it was removed just now
        except RepositoryNotReadable as error:
            check_alone(source.store, error)
            refused = error
        else:
            store.put(name, BytesIO(data))
            copied.add(name)
    if refused is not None and not copied:
        raise refused
    for name in set(_slots(store)) - copied:
        if _is_of(source, store.get(name), name) and not store.exists(CONFIG):
            store.delete(name)


def _is_of(source: Repository, data: bytes, name: str) -> bool:
    try:
        return parse_slot(data, name).repository == source.config.id
    except (KeySlotDamaged, NewerFormat):
        return False


def _slots(store: Store) -> list[str]:
    return [name for name in store.names(KEYS) if is_object(name)]


def _check_twin(address: str, config: Config, source: Repository) -> None:
    if config.id != source.config.id:
        raise NotACopy(
            f"The repository at {address} has the id {config.id}, and that at {source.address} has {source.config.id}: it is "
            "no copy of it."
        )
    _check_features(address, set(config.features), source.address, set(source.config.features))
    if _form(config) != _form(source.config):
        raise NotACopy(f"The config of {address} is not that of {source.address}, though it has its id.")


def _check_features(address: str, features: set[str], source: str, wanted: set[str]) -> None:
    for lacking, names in ((address, wanted - features), (source, features - wanted)):
        for name in sorted(names):
            command = f"FREEZEFRAME_REPOSITORY={shlex.quote(lacking)} freezeframe repo feature enable {name}"
            can_be = KNOWN[name].can_be_enabled
            raise NotACopy(
                f"The repository at {lacking} has not the feature {name}, which the other side has.",
                advice=f"Switch it on there too: `{command}`." if can_be else None,
            )


def _form(config: Config) -> tuple[int, str, int]:
    return config.chunk_bytes, config.digest, config.fan_out

"""Key slots that others remove or damage while somebody opens the repository, and slots of another repository."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.crypto import Keys, new_master
from freezeframe.repository.crypto.slot import make_slot
from freezeframe.repository.errors import KeySlotDamaged, KeySlotNotFound, WrongKey
from freezeframe.repository.layout import KEYS, key_slot_name
from freezeframe.repository.store import MemoryStore

from .locked import CHEAP, KEY, SECRET, Key, locked
from .samples import disk_of, read_disk, store_disk
from .test_key_slots import OTHER

pytestmark = pytest.mark.usefixtures("suite")


class Leaving(MemoryStore):
    """Lists key slots that are gone when they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[str] = []

    def names(self, folder: str) -> Iterator[str]:
        return iter([*(self.gone if folder == KEYS else ()), *super().names(folder), *self.gone])


@pytest.fixture
def store() -> Leaving:
    return Leaving()


def test_a_slot_that_is_removed_since_it_was_listed_hinders_nobody(store: Leaving) -> None:
    repository = locked(store)
    index = store_disk(repository, disk_of(b"a"))
    slots, keys = repository.encryption
    store.gone = [key_slot_name("0" * 32)]
    assert read_disk(Repository.open_in(store, KEY), index) == disk_of(b"a")
    infos, wrong = slots.list(keys)
    assert ([info.label for info in infos], wrong) == (["first"], [])
    with pytest.raises(WrongKey, match="1 of 1 are for one"):
        Repository.open_in(store, Key(OTHER))
    with pytest.raises(KeySlotNotFound):
        slots.find(keys, "0000")


def test_a_name_that_is_no_slots_is_passed_over(store: Leaving) -> None:
    repository = locked(store)
    store.put_many([(f"{KEYS}/notes", b"somebody's")])
    slots, keys = repository.encryption
    assert len(slots.list(keys)[0]) == 1
    assert slots.exist()


def test_slots_of_another_repository_open_nothing_here(store: Leaving) -> None:
    """As where two repositories' folders were copied into one."""
    repository, other = locked(store), locked()
    foreign_slots, foreign_keys = other.encryption
    (mine,) = store.names(KEYS)
    foreign = next(iter(other.store.names(KEYS)))
    foreign_slots.add(foreign_keys, OTHER, "second", CHEAP)
    for name in other.store.names(KEYS):
        store.put_many([(name, other.store.get(name))])
    slots, keys = repository.encryption
    assert [info.label for info in slots.list(keys)[0]] == ["first"]
    assert Repository.open_in(store, Key(SECRET)).config.id == repository.config.id
    with pytest.raises(WrongKey):
        Repository.open_in(store, Key(OTHER))
    store.delete(mine)
    assert not slots.exist()
    with pytest.raises(KeySlotDamaged, match="no key slot"):
        Repository.open_in(store, Key(SECRET))
    assert store.exists(foreign)


def test_a_sound_slot_of_other_keys_is_told_and_not_listed(store: Leaving) -> None:
    """Somebody who may write to the repository has put it there; it opens nothing of ours."""
    repository = locked(store)
    name = key_slot_name("f" * 32)
    slot = make_slot(name, repository.config.id, Keys.of(new_master()), OTHER, CHEAP, "theirs")
    store.put_many([(name, slot.to_json())])
    slots, keys = repository.encryption
    infos, wrong = slots.list(keys)
    assert [info.label for info in infos] == ["first"]
    assert wrong == [f"Key slot {name} is of other keys, or was changed."]

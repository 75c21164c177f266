"""A host with bad memory verifies: it sets little aside, says that it is suspected, and readers find that (R10)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO

import pytest

from freezeframe.repository import Manifest, Repository, Tier, verify
from freezeframe.repository.aside import Kind, list_aside, set_aside
from freezeframe.repository.check import check
from freezeframe.repository.errors import ChunkDamaged, IndexDamaged
from freezeframe.repository.layout import DAMAGED, damaged_document, damaged_name
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.backend import always
from freezeframe.repository.verify import verify_share
from freezeframe.repository.verify.restraint import LEAST, Restraint
from freezeframe.repository.verify.run import Run

from .locked import PROTECTIONS, protected
from .samples import disk_of, random_disk, read_disk, seal, store_disk

pytestmark = pytest.mark.case("R10")


class BadMemory(MemoryStore):
    """Reads chunks wrong while it is `bad`; those in `once` only the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = False
        self.once: set[str] = set()

    def get(self, name: str) -> bytes:
        data = super().get(name)
        if not self.bad or name.endswith(".json") or not name.startswith(("chunks/", DAMAGED)):
            return data
        if name in self.once:
            self.once.remove(name)
            return flipped(data)
        return data if self.once else flipped(data)

    def move(self, name: str, to: str, allowed: Callable[[], None] = always) -> None:
        bad, self.bad = self.bad, False  # a rename reads nothing
        super().move(name, to, allowed)
        self.bad = bad


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.fixture(params=PROTECTIONS)
def held(request: pytest.FixtureRequest) -> Repository:
    store = BadMemory()
    return protected(request.param, store)


def host(repository: Repository) -> BadMemory:
    assert isinstance(repository.store, BadMemory)
    return repository.store


def chunks_of(repository: Repository, manifest: Manifest) -> list[bytes]:
    with repository.index(manifest.guests[0].disks[0].index) as index:
        return [digest for _, digest in index.used_slots()]


def object_of(repository: Repository, manifest: Manifest, kind: Kind) -> tuple[bytes, str]:
    """The digest and the first name of a capture's index, or of its first chunk."""
    protection = repository.objects.protection
    if kind is Kind.CHUNK:
        digest = chunks_of(repository, manifest)[0]
        return digest, protection.locate(digest)
    digest = bytes.fromhex(manifest.guests[0].disks[0].index)
    return digest, protection.index_name(digest)


def objects_aside(repository: Repository) -> list[str]:
    return [name for name in repository.store.names(DAMAGED) if not name.endswith(".json")]


@pytest.mark.parametrize("share", [False, True])
def test_a_bad_host_sets_aside_sixteen_and_says_that_it_is_suspected(held: Repository, *, share: bool) -> None:
    disk = random_disk(60)
    manifest = seal(held, 1, disk)
    host(held).bad = True
    report = verify_share(held, Fraction(1), set_aside=True) if share else verify(held, [manifest], set_aside=True)
    assert len(objects_aside(held)) == LEAST == sum(one.set_aside for one in report.chunks)
    assert len(report.chunks) == 60  # it goes on looking
    assert report.restrained is not None
    assert "another host" in report.restrained
    host(held).bad = False
    assert read_disk(held, manifest.guests[0].disks[0].index) == disk  # meanwhile
    healed = verify(held, [manifest], set_aside=True)
    assert (healed.sound, len(healed.put_back), healed.restrained) == (True, LEAST, None)
    assert list(held.store.names(DAMAGED)) == []


@pytest.mark.parametrize("most", [0, 1, 30])
def test_how_much_is_set_aside_can_be_said(held: Repository, most: int) -> None:
    manifest = seal(held, 1, random_disk(40))
    host(held).bad = True
    report = verify(held, [manifest], set_aside=True, set_aside_at_most=most)
    assert len(objects_aside(held)) == most
    assert report.restrained is not None


def test_a_host_whose_second_look_differs_too_often_sets_nothing_aside(held: Repository) -> None:
    """Each of four chunks is right at the second look; then one is wrong both times."""
    manifest = seal(held, 1, random_disk(40))
    chunks = chunks_of(held, manifest)
    names = [held.objects.protection.locate(one) for one in chunks]
    broken = names[-1]
    held.store.put_many([(broken, flipped(held.store.get(broken)))])
    store = host(held)
    for times, aside in ((4, []), (3, [damaged_name(broken)])):
        store.bad, store.once = True, {*names[:times], "never"}
        run = Run(held, Tier.REHASHED, None, aside=True)
        run.look_at(chunks)
        assert (run.found.bad_reads, list(run.found.chunks)) == (times, [chunks[-1]])
        assert objects_aside(held) == aside
        assert ("right at the second" in (run.found.restrained or "")) == (times == 4)


@pytest.mark.parametrize(
    ("at_most", "looked_at", "aside", "bad_reads", "stopped"),
    [
        (None, 20, 15, 0, False),
        (None, 20, 16, 0, True),
        (None, 16_999, 16, 0, True),
        (None, 17_000, 16, 0, False),
        (None, 1_000_000, 999, 0, False),
        (None, 1_000_000, 1_000, 0, True),
        (None, 20, 0, 3, False),
        (None, 20, 0, 4, True),
        (None, 1_000_000, 0, 10, False),
        (None, 1_000_000, 0, 11, True),
        (2, 1_000_000, 2, 0, True),
        (2_000, 20, 16, 0, False),
        (0, 20, 0, 0, True),
    ],
)
def test_what_is_too_much(at_most: int | None, looked_at: int, aside: int, bad_reads: int, *, stopped: bool) -> None:
    assert (Restraint(at_most).reason(looked_at, aside, bad_reads) is not None) is stopped


@pytest.mark.parametrize("kind", list(Kind))
def test_a_reader_finds_what_is_set_aside_and_sound_and_a_writer_does_not(held: Repository, kind: Kind) -> None:
    disk = disk_of(b"a", b"b")
    manifest = seal(held, 1, disk)
    digest, name = object_of(held, manifest, kind)
    held.store.move(name, damaged_name(name))
    assert read_disk(held, manifest.guests[0].disks[0].index) == disk
    assert verify(held, [manifest], Tier.PRESENT).put_back == (digest.hex(),)  # who verifies does not count it as there
    assert not check(held).sound
    assert not held.objects.has_chunk(name)
    store_disk(held, disk)
    assert held.store.exists(name)


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_set_aside_and_damaged_is_missing_for_a_reader(held: Repository, kind: Kind) -> None:
    manifest = seal(held, 1, disk_of(b"a"))
    index = manifest.guests[0].disks[0].index
    _, name = object_of(held, manifest, kind)
    data = held.store.get(name)
    held.store.delete(name)
    held.store.put_many([(damaged_name(name), flipped(data))])
    error = ChunkDamaged if kind is Kind.CHUNK else IndexDamaged
    with pytest.raises(error, match="is missing"):
        read_disk(held, index)
    held.store.put_many([(f"{damaged_name(name)}G{'0' * 32}", data)])  # beside it, under a name of its own
    assert read_disk(held, index) == disk_of(b"a")


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("own", [False, True], ids=["first name", "name of its own"])
def test_a_sound_object_without_a_document_is_put_back(held: Repository, kind: Kind, *, own: bool) -> None:
    """The document was deleted by a host that did not see the object come."""
    manifest = seal(held, 1, disk_of(b"a"))
    digest, name = object_of(held, manifest, kind)
    held.store.move(name, f"{damaged_name(name)}G{'0' * 32}" if own else damaged_name(name))
    report = verify(held, [manifest], set_aside=True)
    assert (report.sound, report.put_back) == (True, (digest.hex(),))
    assert held.store.exists(name)
    assert list(held.store.names(DAMAGED)) == []


def test_a_second_sound_object_without_a_document_is_taken_away(held: Repository) -> None:
    manifest = seal(held, 1, disk_of(b"a"))
    _, name = object_of(held, manifest, Kind.CHUNK)
    held.store.put_many([(damaged_name(name), held.store.get(name))])
    report = verify(held, [manifest], set_aside=True)
    assert (report.sound, report.put_back, list(held.store.names(DAMAGED))) == (True, (), [])
    assert held.store.exists(name)


def test_what_is_damaged_and_has_no_document_stays(held: Repository) -> None:
    """Nobody can say what it is, so nobody can say that it is not needed."""
    seal(held, 1, disk_of(b"a"))
    place = f"{DAMAGED}/{'ab' * 32}"
    held.store.put_many([(place, b"half of something")])
    assert verify(held, held.manifests(), set_aside=True).sound
    assert list(held.store.names(DAMAGED)) == [place]


def test_what_is_set_aside_takes_nothing_elses_place(held: Repository) -> None:
    """A bad host has set a sound one aside; what was written anew since rots, and a healthy host finds that."""
    manifest = seal(held, 1, disk_of(b"a"))
    digest, name = object_of(held, manifest, Kind.CHUNK)
    sound = held.store.get(name)
    held.store.put_many([(damaged_name(name), sound), (name, flipped(sound))])
    assert set_aside(held.objects, Kind.CHUNK, digest, "it rots")
    (one,) = list_aside(held.objects)
    assert len(one.objects) == 2
    assert held.store.get(damaged_name(name)) == sound
    assert verify(held, [manifest], set_aside=True).put_back == (digest.hex(),)
    assert verify(held, [manifest], set_aside=True).sound
    assert list(held.store.names(DAMAGED)) == []


def test_a_document_that_another_has_written_since_is_not_taken_away(held: Repository) -> None:
    """Between the look at what was repaired and the deletion another host has claimed it."""
    manifest = seal(held, 1, disk_of(b"a"))
    digest, name = object_of(held, manifest, Kind.CHUNK)
    held.store.put_many([(name, flipped(held.store.get(name)))])
    assert set_aside(held.objects, Kind.CHUNK, digest, "it is damaged")
    store_disk(held, disk_of(b"a"))
    (one,) = list_aside(held.objects)
    assert one.document is not None
    later, place, delete = one.document.changed({"reason": "another's"}), damaged_document(name), held.store.delete

    def meanwhile(deleted: str) -> None:
        delete(deleted)
        if deleted.startswith(DAMAGED) and not deleted.endswith(".json"):
            held.store.put(place, BytesIO(bytes(later.stored(held.objects, place))))

    held.store.delete = meanwhile  # type: ignore[method-assign,assignment]
    assert verify(held, [manifest], set_aside=True).repaired == (digest.hex(),)
    assert held.store.exists(place)

"""`freezeframe forget`: what rules keep, what is named, and that nothing goes without either."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from freezeframe.cli import completion
from freezeframe.contract.words import Consistency
from freezeframe.repository import Instant, Manifest, Repository
from freezeframe.settings import BusSettings

from .manifests import GUEST, HOST, capture_id, manifest_of
from .run import Ran, Run

FIRST = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
OTHER = "11111111-2222-3333-4444-555555555555"
HOST_GUEST = "22222222-2222-3333-4444-555555555555"


def seal(repository: Repository, number: int, at: datetime | None = None, uuid: str = GUEST, **wanted: Any) -> Manifest:
    """A capture, a day after that of the number before unless it is said when."""
    manifest = manifest_of(repository, capture_id(number), **wanted)
    guest = manifest.guests[0].model_copy(update={"guest_uuid": uuid})
    instant = Instant(at=at or FIRST + timedelta(days=number))
    made = manifest.model_copy(update={"instant": instant, "guests": (guest,)})
    repository.write_manifest(made)
    return made


@pytest.fixture
def repository(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """In memory where there is room: hundreds of captures are sealed here, and none has to last."""
    memory = Path("/dev/shm")  # noqa: S108 - a new directory in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else place) as path:
        monkeypatch.setenv("FREEZEFRAME_REPOSITORY", f"{path}/repository")
        yield Repository.init(f"{path}/repository", chunk_bytes=4096)


@pytest.fixture
def ten(repository: Repository) -> Repository:
    """Ten days of group shop."""
    for number in range(10):
        seal(repository, number)
    return repository


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def left(repository: Repository) -> list[int]:
    return [int(one[4:]) for one in repository.capture_ids()]


def damage(repository: Repository, number: int) -> None:
    (Path(repository.address) / "manifests" / f"{capture_id(number)}.json").write_text("{}")


def forgotten(ran: Ran) -> list[int]:
    assert ran.exit_code == 0
    return [int(one[4:]) for one in ran.document["forgotten"]]


def rows(ran: Ran) -> dict[int, str]:
    """Each line about a capture, by its number."""
    lines = [line.split(maxsplit=1) for line in ran.stdout.splitlines() if line.startswith("01HZ")]
    return {int(line[0][4:]): line[1].strip() for line in lines}


def test_what_no_rule_keeps_is_forgotten_and_the_reasons_are_shown(run: Run, ten: Repository) -> None:
    ran = run("forget", "--keep-daily", "3", "--keep-yearly", "2", "--utc")
    assert ran.exit_code == 0
    assert left(ten) == [9, 8, 7, 0]
    assert "group shop: 4 kept, 6 forgotten" in ran.stdout
    assert rows(ran)[9].endswith("keep     daily 2026-03-10, yearly 2026")
    assert rows(ran)[0].endswith("keep     oldest (yearly)")
    assert "forget" in rows(ran)[6]
    assert "6 captures are forgotten, 4 kept. `freezeframe gc` frees what only they needed." in ran.stdout
    assert ran.stderr == ""


def test_again_nothing_more_is_forgotten(run: Run, ten: Repository) -> None:
    for _ in range(2):
        ran = run("forget", "--keep-daily", "3", "--keep-yearly", "2")
        assert left(ten) == [9, 8, 7, 0]
    assert "0 captures are forgotten, 4 kept." in ran.stdout


def test_a_dry_run_decides_the_same_and_forgets_nothing(run: Run, ten: Repository) -> None:
    dry = run("forget", "--keep-last", "2", "--dry-run", "--json")
    assert forgotten(dry) == list(range(7, -1, -1))
    assert left(ten) == list(range(9, -1, -1))
    assert (
        "8 captures would be forgotten, 2 kept. Nothing was changed." in run("forget", "--keep-last", "2", "-n").stdout
    )
    assert left(ten) == list(range(9, -1, -1))
    wet = run("forget", "--keep-last", "2", "--json")
    assert {**wet.document, "dry_run": True} == dry.document
    assert left(ten) == [9, 8]


def test_the_document_tells_all(run: Run, ten: Repository) -> None:
    wanted = ["--keep-last", "1", "--keep-within", "2d", "--keep-tag", "golden", "--keep-monthly", "unlimited", "--utc"]
    document = run("forget", *wanted, "--dry-run", "--json").document
    (series,) = document["series"]
    assert (series["name"], series["group"], series["guest_uuids"]) == ("group shop", "shop", None)
    assert [one["capture_id"] for one in series["kept"]] == document["kept"]
    assert [one["capture_id"] for one in series["forgotten"]] == document["forgotten"]
    assert series["kept"][0]["reasons"] == [
        {"rule": "last", "of": None, "oldest": False},
        {"rule": "monthly", "of": "2026-03", "oldest": False},
        {"rule": "within", "of": "2d", "oldest": False},
    ]
    assert series["kept"][-1]["reasons"] == [{"rule": "monthly", "of": "2026-03", "oldest": True}]
    assert document["retention"]["keep_monthly"] == "unlimited"
    assert (document["damaged"], document["warnings"]) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing is forgotten without"),
        (["--keep-daily", "0"], "nothing is forgotten without"),
        (["--group", "shop", "--dry-run"], "nothing is forgotten without"),
        (["--allow-none-left"], "nothing is forgotten without"),
        (["--min-consistency", "group"], "nothing is forgotten without"),
        (["latest", "--keep-last", "1"], "not both"),
        (["latest", "--tag", "nightly"], "not both"),
        (["--keep-last", "-1"], "a count is a number"),
        (["--keep-last", "three"], "a count is a number"),
        (["--keep-within", "7"], "--keep-within"),
        (["--keep-within", ""], "--keep-within"),
        (["--keep-tag", "a b"], "--keep-tag"),
        (["--keep-last", "1", "--group-by", "host"], "--group-by"),
        (["--keep-last", "1", "--group-by", ""], "--group-by"),
        (["--keep-last", "1", "--tag", "a b"], "tags"),
        (["--keep-last", "1", "--group", "?"], "groups"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage_and_forgets_nothing(
    run: Run, ten: Repository, arguments: list[str], said: str
) -> None:
    ran = run("forget", *arguments)
    assert ran.exit_code == 2
    assert said in " ".join(ran.stderr.replace("│", " ").split())
    assert left(ten) == list(range(9, -1, -1))


def test_captures_are_forgotten_by_name(run: Run, ten: Repository) -> None:
    ran = run("forget", capture_id(3), capture_id(4).lower(), "latest", capture_id(9))
    assert ran.exit_code == 0
    assert sorted(rows(ran)) == [3, 4, 9]
    assert "3 captures are forgotten." in ran.stdout
    assert left(ten) == [8, 7, 6, 5, 2, 1, 0]
    dry = run("forget", "latest", "--dry-run", "--json")
    assert forgotten(dry) == [8]
    assert dry.document["named"][0]["guests"] == [{"guest_uuid": GUEST, "name": "db1"}]
    assert left(ten) == [8, 7, 6, 5, 2, 1, 0]


def test_one_that_is_not_there_stops_all_that_were_named(run: Run, ten: Repository) -> None:
    ran = run("forget", capture_id(3), capture_id(77), "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (4, "capture-not-found")
    assert len(left(ten)) == 10


def test_rules_that_would_leave_nothing_of_a_group_are_refused(run: Run, ten: Repository) -> None:
    seal(ten, 20, group="farm", tags=("golden",))
    ran = run("forget", "--keep-tag", "golden", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (3, "would-forget-all")
    assert "group shop" in ran.document["error"]["message"]
    assert "farm" not in ran.document["error"]["message"]
    assert len(left(ten)) == 11
    assert "group shop: 0 kept, 10 forgotten" in run("forget", "--keep-tag", "golden", "--dry-run").stdout
    assert run("forget", "--keep-tag", "golden", "--allow-none-left").exit_code == 0
    assert left(ten) == [20]


def test_a_damaged_manifest_is_named_and_left_alone_unless_it_is_meant(run: Run, ten: Repository) -> None:
    damage(ten, 5)
    ran = run("forget", "--keep-last", "1")
    assert ran.exit_code == 0
    assert "damaged, left alone" in ran.stderr
    assert capture_id(5) in ran.stderr
    assert left(ten) == [9, 5]
    assert len(run("forget", "--keep-last", "1", "--json").document["damaged"]) == 1
    ran = run("forget", capture_id(5))
    assert ran.exit_code == 0
    assert "cannot be read" in rows(ran)[5]
    assert left(ten) == [9]


@pytest.mark.parametrize(
    ("arguments", "remaining"),
    [
        (["--group", "farm"], [9, 8, 7, 6, 5, 4, 3]),
        (["--group", "farm", "--group", "shop"], [9, 6, 5, 4, 3]),
        (["--tag", "nightly"], [9, 8, 7, 6, 5, 4, 3, 2]),
        (["--tag", "nightly,keep"], [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (["--tag", "nightly", "--tag", "keep"], [9, 8, 7, 6, 5, 4, 3, 2]),
        (["--guest", "web"], [9, 8, 7, 6, 4, 3, 2, 1, 0]),
        (["--guest", OTHER, "--guest", "db1"], [9, 6, 4, 3]),
        (["--group-by", "auto"], [9, 6, 4, 3]),
        (["--group-by", "none"], [9]),
        (["--group-by", "tags"], [9, 2, 1]),
        (["--group-by", "guests"], [9, 6]),
        (["--group-by", "group,tags"], [9, 6, 3, 2, 1]),
    ],
)
def test_which_captures_and_how_they_are_counted_together(
    run: Run, repository: Repository, arguments: list[str], remaining: list[int]
) -> None:
    """0 to 3: farm; 4: no group; 5 and 6: no group, another guest; 7 to 9: shop."""
    for number in (0, 1):
        seal(repository, number, group="farm", tags=("nightly", "keep"))
    seal(repository, 2, group="farm", tags=("nightly",))
    seal(repository, 3, group="farm", tags=())
    seal(repository, 4, group=None, tags=())
    for number in (5, 6):
        seal(repository, number, group=None, tags=(), name="web", uuid=OTHER)
    for number in (7, 8, 9):
        seal(repository, number, group="shop", tags=())
    run("forget", "--keep-last", "1", *arguments)
    assert left(repository) == remaining


def test_nothing_to_decide_about(run: Run, repository: Repository) -> None:
    ran = run("forget", "--keep-last", "1", "--group", "none")
    assert ran.exit_code == 0
    assert ran.stdout == "No captures to decide about.\n"
    assert run("forget", "--keep-last", "1", "--json").document["forgotten"] == []


@pytest.mark.case("I5", "I6")
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_name_that_two_guests_have_forgets_captures_of_neither(
    run: Run, repository: Repository, dry: list[str]
) -> None:
    """By one command for one of two guests the other's captures would go too."""
    for number in range(4):
        seal(repository, number, name="web", group=None, uuid=OTHER if number % 2 else GUEST)
    seal(repository, 4, name="db", group=None, uuid=HOST_GUEST)
    for words in (["web"], ["db", "web"]):
        ran = run("forget", "--keep-last", "1", *[part for word in words for part in ("--guest", word)], *dry, "--json")
        assert ran.exit_code == 3
        assert ran.document["error"]["code"] == "ambiguous-guest"
        assert f"{OTHER} of host {HOST} and {GUEST} of host {HOST}" in ran.document["error"]["message"]
        assert left(repository) == [4, 3, 2, 1, 0]
    ways = re.findall(r"--guest (\S+?)[ ,.]", ran.document["error"]["advice"])
    assert ways == [OTHER, GUEST]
    assert run("forget", "--keep-last", "1", "--guest", ways[0], *dry).exit_code == 0
    assert left(repository) == ([4, 3, 2, 1, 0] if dry else [4, 3, 2, 0])
    assert run("forget", "--keep-last", "1", "--guest", "db", *dry).exit_code == 0


def test_a_guest_that_was_renamed_is_one_guest(run: Run, repository: Repository) -> None:
    for number in range(3):
        seal(repository, number, name="web" if number else "old", group=None)
    assert forgotten(run("forget", "--keep-last", "1", "--guest", "web", "--json")) == [1]


def test_a_guest_of_which_nothing_is_left_is_named(run: Run, repository: Repository) -> None:
    seal(repository, 1, name="web", uuid=OTHER)
    seal(repository, 2)
    ran = run("forget", "--keep-last", "1")
    assert f"guest web ({OTHER}) is in no capture that is kept" in ran.stderr
    assert "db1" not in ran.stderr


def test_captures_that_prove_less_may_be_left_out_of_the_count(run: Run, repository: Repository) -> None:
    for number, consistency in enumerate([Consistency.GROUP, Consistency.GROUP, Consistency.CRASH, Consistency.GUEST]):
        seal(repository, number, consistency=consistency)
    dry = run("forget", "--keep-last", "1", "--dry-run")
    assert "no capture is kept that proves as much as the best that is forgotten (group)" in dry.stderr
    assert [number for number, row in rows(dry).items() if "keep" in row] == [3]
    ran = run("forget", "--keep-last", "1", "--min-consistency", "group")
    assert "proves as much" not in ran.stderr
    assert left(repository) == [3, 2, 1]
    assert "nothing better is newer" in rows(ran)[2]


def test_one_that_is_dated_later_than_now_is_kept_and_told(run: Run, ten: Repository) -> None:
    seal(ten, 20, datetime.now(UTC) + timedelta(days=400))
    ran = run("forget", "--keep-last", "1")
    assert left(ten) == [20, 9]
    assert f"capture {capture_id(20)} is dated later than now" in ran.stderr
    assert "dated later than now" in rows(ran)[20]


def test_days_are_those_of_this_machine_or_of_utc(run: Run, repository: Repository, berlin: None) -> None:
    seal(repository, 1, datetime(2026, 7, 1, 21, 30, tzinfo=UTC))
    seal(repository, 2, datetime(2026, 7, 1, 22, 30, tzinfo=UTC))
    seal(repository, 3, datetime(2026, 7, 2, 21, 30, tzinfo=UTC))
    here = run("forget", "--keep-daily", "2", "--dry-run")
    assert "when (here)" in here.stdout
    assert rows(here)[2].startswith("2026-07-02 00:30")
    assert [number for number, row in rows(here).items() if "keep" in row] == [3, 1]
    utc = run("forget", "--keep-daily", "2", "--utc", "--dry-run")
    assert rows(utc)[2].startswith("2026-07-01 22:30")
    assert [number for number, row in rows(utc).items() if "keep" in row] == [3, 2]


def test_an_encrypted_repository(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_file = place / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    assert run("repo", "init", "--encrypt", "--key-file", str(key_file), "--chunk-size", "4K").exit_code == 0
    ran = run("forget", "--keep-last", "1", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (5, "key-not-configured")
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key_file))
    from freezeframe.cli.secret import open_repository  # noqa: PLC0415 - with the settings of this test

    for number in range(3):
        seal(open_repository(), number)
    assert forgotten(run("forget", "--keep-last", "2", "--json")) == [0]
    assert forgotten(run("forget", "latest", "--json")) == [2]
    assert open_repository().capture_ids() == [capture_id(1)]


def test_no_repository(run: Run, place: Path) -> None:
    ran = run("forget", "--keep-last", "1", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (5, "repository-not-found")


def test_captures_are_completed_without_reading_them(run: Run, ten: Repository, bus: BusSettings) -> None:
    damage(ten, 5)
    assert completion.capture_ids("01HZ") == [capture_id(number) for number in range(9, -1, -1)]


def seal_guests(repository: Repository, number: int, names: tuple[str, ...]) -> None:
    manifest = manifest_of(repository, capture_id(number))
    guests = tuple(
        manifest.guests[0].model_copy(update={"guest_uuid": f"{int(name):08x}{GUEST[8:]}", "name": f"g{name}"})
        for name in names
    )
    at = Instant(at=FIRST + timedelta(days=number))
    repository.write_manifest(manifest.model_copy(update={"instant": at, "guests": guests, "group": None}))


def test_rules_that_keep_everything_as_sets_of_guests_differ_say_so(run: Run, repository: Repository) -> None:
    for number in range(6):
        seal_guests(repository, number, (str(number), str(number + 1)))
    ran = run("forget", "--keep-last", "1", "--dry-run")
    said = " ".join((ran.stdout + ran.stderr).split())
    assert "6 of 6 captures are kept, in 6 series of guests that overlap" in said
    assert "--group NAME" in said
    document = run("forget", "--keep-last", "1", "--dry-run", "--json").document
    assert (document["guest_sets"], document["forgotten"]) == (6, [])
    assert any("--guest NAME --group-by none" in one for one in document["warnings"])
    one_guest = run("forget", "--guest", "g3", "--group-by", "none", "--keep-last", "1", "--dry-run", "--json").document
    assert (one_guest["guest_sets"], len(one_guest["forgotten"])) == (0, 1)

"""Commands that messages and advice print exist as printed: verbs, options and arguments (issue: advice is tested)."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import redis
import typer.main

from freezeframe.cli.app import app
from freezeframe.cli.capture import guest_holds
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest, DiskChoice
from freezeframe.contract.words import Consistency, HoldKind
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest, argument, guest_word
from freezeframe.presence import KnownHost, UnreadHost
from freezeframe.repository import GuestCapture
from freezeframe.repository.errors import IndexDamaged
from orchestrator import unsealable
from orchestrator.errors import AmbiguousGuestError, SplitGuestError, UnknownGuestError
from orchestrator.planner import plan_hosts
from orchestrator.unread import UnreadHostError
from tests.odd_names import ODD_NAMES
from workers import refusal
from workers.fitness import blocked_command, state_refusal
from workers.fitness.encryption import encryption_refusal
from workers.fitness.leaving_out import not_capturable
from workers.fitness.stillness import MovingDisk, Stillness
from workers.hypervisor.disk import DomainDisk, disks_of
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import FreezeExpiredError, SlowFreezeError
from workers.pace import TooSlow

TOP = Path(__file__).resolve().parents[3]
UUID = "00000000-0000-4000-8000-00000000000a"
#: The UUID of another guest, by which one may be named too; and that of one of the same name.
TWIN, OTHER = "00000000-0000-4000-8000-00000000000b", "00000000-0000-4000-8000-00000000000c"
#: What stands for a value that is only known when the message is made.
VALUE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
_COMMAND = re.compile(r"`((?:freezeframe|virsh|qemu-img|redis-cli)\b[^`]*)`")
_OPTION = re.compile(r"(?<![\w`/-])--[a-z][a-z-]+")


class Printed(NamedTuple):
    """A command as it is printed, and where in the code."""

    place: str
    command: str


def sources() -> Iterator[Path]:
    for package in ("freezeframe", "orchestrator", "workers"):
        yield from sorted((TOP / package).rglob("*.py"))


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Every string of a file but docstrings, with values in place of what is filled in later."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docs or id(node) in inner:
            continue
        place = f"{path.relative_to(TOP)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield place, node.value
        elif isinstance(node, ast.JoinedStr):
            yield place, "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)


def printed(program: str) -> list[Printed]:
    return [
        Printed(place, command)
        for path in sources()
        for place, text in texts(path)
        for command in _COMMAND.findall(text)
        if command.split()[0] == program
    ]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words that are its own. Raises KeyError for a verb that is none."""
    found: Any = typer.main.get_command(app)
    rest = words
    while hasattr(found, "get_command") and rest and not rest[0].startswith("-"):
        inner = found.get_command(typer.Context(found), rest[0])
        if inner is None:
            raise KeyError(rest[0])
        found, rest = inner, rest[1:]
    return found, rest


def options_of(command: Any) -> set[str]:
    return {word for option in command.params for word in (*option.opts, *option.secondary_opts)}


def all_options() -> set[str]:
    root: Any = typer.main.get_command(app)
    found, waiting = set(), [root]
    while waiting:
        command = waiting.pop()
        found |= options_of(command)
        if hasattr(command, "list_commands"):
            context = typer.Context(command)
            waiting += [command.get_command(context, name) for name in command.list_commands(context)]
    return found | {"--help"}


def test_there_is_advice_to_look_at() -> None:
    assert {one.command for one in printed("freezeframe")} > {"freezeframe up", "freezeframe hosts"}
    assert printed("virsh")
    assert printed("qemu-img")
    assert printed("redis-cli")


@pytest.mark.parametrize("one", printed("freezeframe"), ids=lambda one: f"{one.place} {one.command}")
def test_a_printed_command_is_a_verb_with_its_options_and_arguments(one: Printed) -> None:
    words = shlex.split(one.command)[1:]
    command, rest = command_of(words)
    assert {word for word in rest if word.startswith("--")} <= options_of(command)
    if rest:  # it is complete: it parses as it is
        command.make_context("x", list(rest))


@pytest.mark.case("I5")
@pytest.mark.parametrize("state", ["paused", "pmsuspended", "crashed"])
@pytest.mark.parametrize("name", [*ODD_NAMES, "-rf", ".hidden"])
def test_advice_about_a_guest_works_when_pasted(name: str, state: str) -> None:
    refusal = state_refusal(NamedGuest(name, UUID), state, HoldKind.FREEZE)
    assert refusal is not None
    [virsh] = re.findall(r"\(`virsh (.*?)`\), or", refusal.hint, re.DOTALL)
    assert shlex.split(virsh)[1] in {UUID, name}
    assert not shlex.split(virsh)[1].isdigit()
    pasted = shlex.split("capture --all --guest-hold " + refusal.hint.partition("--guest-hold ")[2].removesuffix("."))
    command, rest = command_of(pasted)
    assert guest_holds(command.make_context("capture", rest).params["guest_hold"], [])[0].guest == UUID
    refused = not_capturable(NamedGuest(name, UUID), "vdb", "it is a test")
    pasted = shlex.split(
        "capture --all --skip-disk "
        + refused.hint.removeprefix("Leave it out with --skip-disk ").removesuffix(" if you can do without it.")
    )
    command, rest = command_of(pasted)
    [choice] = command.make_context("capture", rest).params["skip_disk"]
    assert DiskChoice.parse(choice) == DiskChoice(guest=UUID, target="vdb")


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["web", TWIN, "it's"])
def test_advice_of_one_host_works_where_another_has_a_guest_of_that_name_in_the_capture(name: str) -> None:
    who = NamedGuest(name, UUID)
    hosts = [known_host("host-a", UUID, name), known_host("host-b", TWIN, name)]
    texts = [error.hint for error in refusals(who)] + list(Stillness((MovingDisk("vda", "it moves"),)).warnings(who))
    for text in texts:
        [option, word] = re.findall(r"--(skip-disk|guest-hold) (\S+?)[ ,.]", f"{text} ")[-1]
        own = (
            {"skip_disks": (DiskChoice.parse(word),)}
            if option == "skip-disk"
            else {"guest_holds": tuple(guest_holds([word], []))}
        )
        request = CaptureRequest.model_validate({"capture_id": VALUE, "every_guest": True, **own})
        plans = {one.guest_uuid: one for host in plan_hosts(request, hosts) for one in host.guests}
        changed = [uuid for uuid, one in plans.items() if one.skip or one.hold.kind is not HoldKind.FREEZE]
        assert changed == [UUID], text


def known_host(host_id: str, uuid: str, name: str) -> KnownHost:
    guests = (GuestEntry(guest_uuid=uuid, name=name, state="running"),)
    at = datetime.now(UTC)
    entry = HostEntry(
        host_id=host_id, at=at, freezeframe_version="1", libvirt_version="9", qemu_version="7", guests=guests
    )
    return KnownHost(entry, alive=True)


def refusals(guest: NamedGuest) -> list[FreezeframeError]:
    """What a host says of a guest with the option that helps."""
    hold, too_slow = GuestHold(kind=HoldKind.FREEZE), TooSlow(20_000.0, datetime.now(UTC).timestamp())
    said = AgentError("it cannot")
    shared = [
        state_refusal(guest, "paused", HoldKind.FREEZE),
        blocked_command(guest, hold, {}),
        encryption_refusal(guest, encrypted_disk(), (), repository_encrypted=False),
    ]
    return [
        not_capturable(guest, "vdb", "it is a test"),
        refusal.no_agent(guest, "it is off."),
        refusal.SlowGuestError(guest, too_slow),
        SlowFreezeError(guest, 10.0),
        FreezeExpiredError(guest, said),
        *[one for one in shared if one is not None],
    ]


def encrypted_disk() -> DomainDisk:
    xml = "<source file='/l'><encryption format='luks'/></source><target dev='vde'/>"
    [disk] = disks_of(f"<domain><devices><disk type='file' device='disk'>{xml}</disk></devices></domain>")
    return disk


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["web", "old db", "5", "-rf", "it's"])
def test_advice_with_virsh_names_the_guest(name: str) -> None:
    guest = NamedGuest(name, UUID)
    told = [
        refusal.GuestFrozenError(guest),
        refusal.FrozenMeanwhileError(guest),
        refusal.GuestBusyError(guest, "It is busy."),
        refusal.GuestBusyError(guest, "It is busy.", disk="vda"),
        refusal.GuestMigratingError(guest, "migration-out"),
    ]
    for error in told:
        [command] = re.findall(r"`virsh (.*?)`", error.hint)
        assert shlex.split(command)[1] == (name if name == "web" else UUID)


#: Names that a verb takes for something else.
MISTAKEN = ("-rf", "-web", "--json", "--", "-")


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", [*ODD_NAMES, *MISTAKEN, ".hidden"])
def test_a_name_is_quoted_such_that_a_verb_gets_it_whole(name: str) -> None:
    pasted = shlex.split(f"capture --guest-hold {shlex.quote(f'{name}:pause')} {argument(name)}")
    command, rest = command_of(pasted)
    params = command.make_context("capture", rest).params
    assert (params["guests"], params["guest_hold"]) == ([name], [f"{name}:pause"])


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", [*ODD_NAMES, *MISTAKEN, ".hidden", TWIN])
def test_a_guest_s_word_means_that_guest_as_an_argument(name: str) -> None:
    command, rest = command_of(shlex.split(f"capture {guest_word(name, UUID)}"))
    [word] = command.make_context("capture", rest).params["guests"]
    assert word in ((UUID,) if name == TWIN or name in MISTAKEN else (name,))


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["web", *MISTAKEN])
def test_the_ways_out_of_a_refusal_are_arguments_that_mean_that_guest(name: str) -> None:
    hosts = [known_host("host-a", UUID, name), known_host("host-b", OTHER, name)]
    with pytest.raises(AmbiguousGuestError) as ambiguous:
        plan_hosts(CaptureRequest(capture_id=VALUE, guests=(name,)), hosts)
    ways = re.split(", ", ambiguous.value.hint.removeprefix("Name one of ").removesuffix("."))
    assert {planned(hosts, way) for way in ways} == {("host-a", UUID), ("host-b", OTHER)}


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["web", "db 1", *MISTAKEN, TWIN])
def test_the_ways_out_where_one_guest_is_on_two_hosts_are_arguments(name: str) -> None:
    hosts = [known_host("host-a", UUID, name), known_host("host-b", UUID, name)]
    with pytest.raises(SplitGuestError) as split:
        plan_hosts(CaptureRequest(capture_id=VALUE, guests=(UUID,)), hosts)
    ways = split.value.hint.removeprefix("Name the one that you mean: ").partition(". Give")[0].split(" or ")
    assert [planned(hosts, way) for way in ways] == [("host-a", UUID), ("host-b", UUID)]


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["websrv", "-websrv", "--websrv"])
def test_the_near_name_of_a_guest_that_is_not_there_is_an_argument(name: str) -> None:
    hosts = [known_host("host-a", UUID, name)]
    with pytest.raises(UnknownGuestError) as unknown:
        plan_hosts(CaptureRequest(capture_id=VALUE, guests=("websvr",)), hosts)
    way = unknown.value.hint.removeprefix("Did you mean ").partition("?")[0]
    assert planned(hosts, way) == ("host-a", UUID)


def planned(hosts: list[KnownHost], pasted: str) -> tuple[str, str]:
    """Return the host and the guest that `freezeframe capture` followed by this means."""
    command, rest = command_of(shlex.split(f"capture {pasted}"))
    words = command.make_context("capture", rest).params["guests"]
    [host] = plan_hosts(CaptureRequest(capture_id=VALUE, guests=tuple(words)), hosts)
    [guest] = host.guests
    return host.host_id, guest.guest_uuid


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ["web", "it's", *MISTAKEN, TWIN])
def test_a_guest_that_could_not_be_sealed_is_captured_again_by_the_printed_command(name: str) -> None:
    guest = GuestCapture(
        guest_uuid=UUID,
        name=name,
        host_id="host-a",
        domain_xml="<domain/>",
        consistency=Consistency.CRASH,
        hold_ms=None,
        disks=(),
    )
    fault = unsealable._fault(IndexDamaged("It is damaged."), guest, "vda")
    [pasted] = re.findall(r"`freezeframe capture (.*)`", fault.advice)
    hosts = [known_host("host-a", UUID, name), known_host("host-b", OTHER, name)]
    assert planned(hosts, pasted) == ("host-a", UUID)


@pytest.mark.parametrize("host_id", ["host-a", "-a", "--force", "a b"])
def test_a_host_that_cannot_be_read_is_forgotten_by_the_printed_command(host_id: str) -> None:
    """Its id is of a key in Redis, whoever wrote that."""
    error = UnreadHostError(UnreadHost(host_id, "cannot be read", alive=False))
    [pasted] = re.findall(r"`freezeframe (hosts forget .*?)`", error.hint)
    command, rest = command_of(shlex.split(pasted))
    assert command.make_context("forget", rest).params["host"] == host_id


def test_every_option_that_a_message_names_is_one_of_some_verb() -> None:
    known = all_options() | OTHER_PROGRAMS
    wrong = [
        (place, option)
        for path in sources()
        if "errors" in path.name or "refusal" in path.name or path.parent.name in {"fitness", "scratch", "restore"}
        for place, text in texts(path)
        for option in _OPTION.findall(_COMMAND.sub("", text))
        if option not in known and " " in text.strip()
    ]
    assert wrong == []


#: Options that messages name of other programs, without the whole command.
OTHER_PROGRAMS: set[str] = set()


@pytest.mark.parametrize("one", printed("virsh"), ids=lambda one: f"{one.place} {one.command}")
def test_a_printed_virsh_command_is_one_with_its_options(one: Printed) -> None:
    if shutil.which("virsh") is None:
        pytest.skip("virsh is not installed here")
    words = shlex.split(one.command)[1:]
    told = subprocess.run(["virsh", "help", words[0]], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert [word for word in words[1:] if word.startswith("--") and word not in told.stdout] == []


@pytest.mark.parametrize("one", printed("qemu-img"), ids=lambda one: f"{one.place} {one.command}")
def test_a_printed_qemu_img_command_is_one_with_its_options(one: Printed) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed here")
    words = shlex.split(one.command)[1:]
    told = subprocess.run(["qemu-img", "--help"], capture_output=True, text=True, check=False).stdout
    usage = next(line for line in told.splitlines() if line.strip().startswith(f"{words[0]} "))
    assert [word for word in words[1:] if word.startswith("-") and word.split("=")[0] not in usage] == []


@pytest.mark.parametrize("one", printed("redis-cli"), ids=lambda one: f"{one.place} {one.command}")
def test_a_printed_redis_command_is_answered(one: Printed, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    words = ["default" if word == "USER" else word for word in shlex.split(one.command)[1:]]
    answer = cast("Any", client).execute_command(*words)
    client.close()
    assert answer

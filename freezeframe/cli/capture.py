"""`freezeframe capture`: ask for a capture, and follow it to its end."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from ulid import ULID

from freezeframe.cli.address import bus_settings
from freezeframe.cli.completion import guest_names
from freezeframe.cli.following import exit_code, follow, show_receipt
from freezeframe.cli.output import AsJson, out, print_json
from freezeframe.cli.progress import showing
from freezeframe.client import Client
from freezeframe.contract.request import CaptureRequest, DiskChoice, HoldChoice, Receipt
from freezeframe.contract.words import HoldKind, Policy, RunState, WantedKind

_USUAL = CaptureRequest(capture_id="0" * 26, every_guest=True)  # the contract's own defaults
_MOUNTPOINT = re.compile(r"(?P<guest>[^/]+):(?P<path>/.*|[A-Za-z]:\\?)", re.DOTALL)
_RATE_FACTORS = {"M": 1 << 20, "G": 1 << 30}


def capture(
    guests: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GUEST",
            help="Guests to capture together: a name, a UUID, or name@host where a name is on more than one host.",
            autocompletion=guest_names,
            show_default=False,
        ),
    ] = None,
    *,
    every_guest: Annotated[bool, typer.Option("--all", help="Every running guest of every host.")] = False,
    group: Annotated[str | None, typer.Option(help="Keep the capture under this group's name.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Give it a tag; may be repeated.")] = None,
    hold: Annotated[
        HoldKind,
        typer.Option(
            help="How guests are kept still for the instant. freeze: their filesystems, through the guest agent. pause: "
            "their CPUs, needs no agent. freeze-pause: both, so that swap and raw devices are still too. none: not at "
            "all, as after a power cut."
        ),
    ] = _USUAL.hold,
    guest_hold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GUEST:KIND",
            help="Hold this guest in another way than the others, as in legacy:pause for one without an agent; may be "
            "repeated.",
        ),
    ] = None,
    mountpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GUEST:PATH",
            help="Freeze only this filesystem of the guest, as in db1:/var/lib/mysql; may be repeated. Disks with others "
            "are captured too, and nothing is claimed of them.",
        ),
    ] = None,
    policy: Annotated[
        Policy,
        typer.Option(
            help="If one part fails. all: keep nothing. degrade: keep the rest, labelled with what is proven."
        ),
    ] = _USUAL.policy,
    full: Annotated[
        bool, typer.Option("--full", help="Read every disk in full, also where an incremental would do.")
    ] = False,
    hold_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="No guest is kept still for longer than this, whatever happens.")
    ] = _USUAL.hold_timeout_s,
    muster_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How long hosts wait for each other before any guest is kept still."),
    ] = _USUAL.muster_timeout_s,
    skip_disk: Annotated[
        list[str] | None,
        typer.Option(metavar="GUEST:TARGET", help="Leave this disk out, as in db1:vdb; may be repeated."),
    ] = None,
    decrypt_disk: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GUEST:TARGET",
            help="Agree that this disk, which QEMU decrypts, lies as plain text in a repository that is not encrypted, "
            "as in db1:vdb; may be repeated.",
        ),
    ] = None,
    limit_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Read each disk with at most this many bytes a second, as in 50M; at least 1M. A host's own limits hold too.",
        ),
    ] = None,
    wait_for_guests: Annotated[
        bool,
        typer.Option(
            "--wait-for-guests", help="Wait for guests that are in another capture, instead of being refused them."
        ),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Ask for it and return at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Capture guests at one instant, and wait until that is done.

    All guests of one capture show the same instant, on however many hosts they run. Ctrl-C ends the waiting, not the capture.
    A capture waits for its place where as many are at work as may be; `captures cancel` ends that too.

    Exit code: 0 done; 10 done, but with less than was asked for; otherwise why it failed: 3 refused before any guest was
    held, 4 not found, 5 repository, 6 something does not answer, 1 anything else.
    """
    request = _request(
        capture_id=str(ULID()),
        guests=tuple(guests or ()),
        every_guest=every_guest,
        skip_disks=_disks(skip_disk or [], "to leave out"),
        decrypt_disks=_disks(decrypt_disk or [], "to capture decrypted"),
        group=group,
        tags=tuple(tag or ()),
        hold=hold,
        guest_holds=guest_holds(guest_hold or [], mountpoint or []),
        policy=policy,
        kind=WantedKind.FULL if full else WantedKind.AUTO,
        hold_timeout_s=hold_timeout,
        muster_timeout_s=muster_timeout,
        limit_bytes_s=_rate(limit_rate) if limit_rate else None,
        wait_for_guests=wait_for_guests,
    )
    client = Client(bus_settings())
    client.ask(request)
    if detach:
        _show_asked(request.capture_id, as_json=as_json)
        return
    with showing() as progress:
        progress.say(f"capture {request.capture_id}: asked for; the orchestrator is to pick it up")
        receipt = follow(client.follow(request.capture_id), progress, request.capture_id)
    _show_end(receipt, as_json=as_json)
    raise typer.Exit(exit_code(receipt))


def _request(**wanted: Any) -> CaptureRequest:
    """Raises BadParameter, which names what cannot be used."""
    try:
        return CaptureRequest(**wanted)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]).replace("_s", "").replace("_", " ") if first["loc"] else ""
        raise typer.BadParameter(
            f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
        ) from error


def _rate(text: str) -> int:
    """`50M`, `1.5G`: bytes a second. Raises BadParameter."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([MG])(?:i?B)?(?:/s)?", text.strip(), re.IGNORECASE | re.ASCII)
    rate = int(float(match[1]) * _RATE_FACTORS[match[2].upper()]) if match else 0
    if rate < _RATE_FACTORS["M"]:
        raise typer.BadParameter("a rate is written as in 50M or 1.5G, bytes a second, and is at least 1M")
    return rate


def _disks(texts: list[str], purpose: str) -> tuple[DiskChoice, ...]:
    try:
        return tuple(DiskChoice.parse(text) for text in texts)
    except ValidationError as error:
        raise typer.BadParameter(f"a disk {purpose} is written GUEST:TARGET, as in db1:vdb") from error


def guest_holds(holds: list[str], mountpoints: list[str]) -> tuple[HoldChoice, ...]:
    """One choice a guest, from `guest:kind` and `guest:path` texts. Raises BadParameter."""
    kinds: dict[str, str] = {}
    paths: dict[str, list[str]] = {}
    for text in holds:
        guest, _, kind = text.rpartition(":")
        if kinds.setdefault(guest, kind) != kind:
            raise typer.BadParameter(f"guest {guest} is given two holds")
    for text in mountpoints:
        guest, path = _guest_and_path(text)
        paths.setdefault(guest, []).append(path)
    return tuple(_hold_choice(guest, kinds.get(guest), paths.get(guest, [])) for guest in {**kinds, **paths})


def _guest_and_path(text: str) -> tuple[str, str]:
    """Split `guest:/path` and `guest:C:`, where the guest's name may have colons and no slash. Raises BadParameter."""
    match = _MOUNTPOINT.fullmatch(text)
    if match is None:
        raise typer.BadParameter("a mount point is written GUEST:PATH, as in db1:/srv")
    return match["guest"], match["path"]


def _hold_choice(guest: str, kind: str | None, mountpoints: list[str]) -> HoldChoice:
    try:
        return HoldChoice.model_validate({"guest": guest, "kind": kind, "mountpoints": tuple(mountpoints)})
    except ValidationError as error:
        kinds = ", ".join(HoldKind)
        raise typer.BadParameter(
            f"a guest's own hold is written GUEST:KIND with one of {kinds}; a mount point GUEST:PATH, as in db1:/srv"
        ) from error


def _show_asked(capture_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"capture_id": capture_id, "state": "asked"})
    else:
        out().print(f"Asked for capture {capture_id}; `freezeframe captures` shows how it stands.", soft_wrap=True)


def _show_end(receipt: Receipt, *, as_json: bool) -> None:
    if not as_json:
        show_receipt(receipt)
        return
    document: dict[str, Any] = receipt.model_dump(mode="json")
    document["exit_code"] = exit_code(receipt)
    if receipt.state is RunState.FAILED and receipt.faults:
        document["error"] = receipt.faults[0]
    print_json(document)

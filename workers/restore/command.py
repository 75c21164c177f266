"""`freezeframe restore`: bring captured guests back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freezeframe.cli.completion import capture_ids
from freezeframe.cli.expect import IsAuthenticated, IsEncrypted, RepositoryId, stated
from freezeframe.cli.output import AsJson, print_json
from freezeframe.cli.secret import check_latest, open_repository
from freezeframe.settings import load
from workers.restore.capture import plan_capture, restore_capture
from workers.restore.display import progress, show_plan, summarize
from workers.restore.errors import DefineNameError
from workers.restore.image import ImageFormat
from workers.restore.memory import keep_freed_memory
from workers.restore.place import places
from workers.restore.running_guests import LibvirtSettings, libvirts_here

if TYPE_CHECKING:
    from workers.restore.guest import Define


def restore(
    capture: Annotated[
        str,
        typer.Argument(
            metavar="CAPTURE", help="A capture's id, the beginning of one, or `latest`.", autocompletion=capture_ids
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the disks go. Made if it is not there.")],
    *,
    guest: Annotated[
        list[str] | None,
        typer.Option("--guest", metavar="NAME", help="Only this guest, by name or UUID. May be repeated."),
    ] = None,
    disk: Annotated[
        list[str] | None, typer.Option("--disk", metavar="TARGET", help="Only this disk, as in vda. May be repeated.")
    ] = None,
    image_format: Annotated[ImageFormat, typer.Option("--format", help="What to write.")] = ImageFormat.QCOW2,
    define: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Define the guest in libvirt under this name, with a UUID and addresses of its own; "
            "{guest} in it stands for the captured guest's name.",
        ),
    ] = None,
    define_as_captured: Annotated[
        bool, typer.Option("--define-as-captured", help="Define it with its captured name, UUID and addresses.")
    ] = False,
    trust_definition: Annotated[
        bool,
        typer.Option(
            "--trust-definition",
            help="Define it also with what may reach beyond the guest and its restored disks: scripts, devices and files of "
            "the host. Without this each such element is named, and nothing is written.",
        ),
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="Start what was defined.")] = False,
    to_device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GUEST:TARGET=/dev/…",
            help="This disk goes to that block device instead, which must be at least as large and in no other use, as by a "
            "running guest. May be repeated.",
        ),
    ] = None,
    to_nbd: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GUEST:TARGET=URI",
            help="This disk goes to that NBD export instead, as in nbd://host/name or nbd+unix:///name?socket=PATH. May be "
            "repeated.",
        ),
    ] = None,
    overwrite_devices: Annotated[
        bool, typer.Option("--overwrite-devices", help="All that is on those devices and exports may be lost.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there, each once its successor is whole.")
    ] = False,
    no_guest_check: Annotated[
        bool,
        typer.Option(
            "--no-guest-check",
            help="Do not ask libvirt whether a running guest has what is written over; only open descriptors are looked at.",
        ),
    ] = False,
    repository: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The repository, if not the one of the settings.")
    ] = None,
    repository_id: RepositoryId = None,
    encrypted: IsEncrypted = False,
    authenticated: IsAuthenticated = False,
    connect: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The libvirt to define in, if not the one of the settings."),
    ] = None,
    trust_resumed: Annotated[
        bool,
        typer.Option(
            "--trust-resumed",
            help="Go on after an interruption without reading again what was durable by then. Only if nobody else wrote to it.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make all checks, say what would be done, and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring captured guests back: their disks as files or onto devices, and on request the guests in libvirt.

    Only the repository is needed, and libvirt only to define. Where this host has one, it is asked before a device, an export
    or a file is written over, and the disk of a running guest is refused. A disk's file appears when it is whole. After an
    interruption the same command goes on where it was: what is there already is read and compared with the capture, and only
    the rest is written. Until then the file ends in .partial, and beside it lies one that ends in .progress.
    """
    wish = _wish(define, as_captured=define_as_captured, start=start, trust=trust_definition, uri=connect)
    expected = stated(repository_id, encrypted=encrypted, authenticated=authenticated)
    opened = open_repository(repository, stated=expected, ask=True, for_hours=True)
    check_latest(opened, capture)
    manifest = opened.manifest(capture)
    keep_freed_memory()
    wanted: dict[str, Any] = {
        "image_format": image_format,
        "guests": guest or None,
        "disks": disk or None,
        "places": places(to_device or (), to_nbd or ()),
        "define": wish,
        "overwrite": overwrite,
        "libvirts": tuple if no_guest_check else partial(libvirts_here, connect),
    }
    if dry_run:
        found = plan_capture(opened, manifest, to, **wanted)
        print_json(found) if as_json else show_plan(found)
        return
    more: dict[str, Any] = {"overwrite_devices": overwrite_devices, "trust": trust_resumed}
    with progress() as on_progress:
        report = restore_capture(opened, manifest, to, **wanted, **more, on_progress=on_progress)
    if as_json:
        print_json(report)
    else:
        summarize(report)


def _wish(name: str | None, *, as_captured: bool, start: bool, trust: bool, uri: str | None) -> Define | None:
    """Return how to define the guests, or None. Raises DefineNameError for options that contradict each other."""
    if name is not None and as_captured:
        raise DefineNameError("A guest is defined under a new name or as captured, not both.", advice="")
    if name is None and not as_captured:
        if start:
            raise DefineNameError("Only a guest that is defined can be started.", advice="Add --define NAME.")
        if trust:
            raise DefineNameError("Only a definition that is used can be trusted.", advice="Add --define NAME.")
        return None
    # a restore to files must work where no libvirt is installed
    from workers.hypervisor.connection import Hypervisor  # noqa: PLC0415
    from workers.restore.guest import Define  # noqa: PLC0415

    return Define(Hypervisor(uri or load(LibvirtSettings).libvirt_uri), name, start, trust)

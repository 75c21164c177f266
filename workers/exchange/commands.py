"""`freezeframe export` and `freezeframe import`: for people who leave us, and for those who come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freezeframe.cli.completion import capture_ids
from freezeframe.cli.expect import IsAuthenticated, IsEncrypted, RepositoryId, stated
from freezeframe.cli.output import AsJson, bytes_text, duration_text, err, out, print_json
from freezeframe.cli.secret import check_latest, open_repository
from freezeframe.cli.unwinding import unwinding
from freezeframe.settings import HostSettings, load
from workers.exchange.export import export_capture
from workers.exchange.imports import import_capture
from workers.exchange.wanted import Wanted, from_images, from_set
from workers.restore.display import progress
from workers.restore.image import ImageFormat
from workers.restore.memory import keep_freed_memory

Repository = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The repository, if not the one of the settings.")
]
Guests = Annotated[
    list[str] | None,
    typer.Option("--guest", metavar="NAME", help="Only this guest, by name or UUID. May be repeated."),
]


def export(
    capture: Annotated[
        str,
        typer.Argument(
            metavar="CAPTURE", help="A capture's id, the beginning of one, or `latest`.", autocompletion=capture_ids
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The directory to make.")],
    *,
    guest: Guests = None,
    image_format: Annotated[ImageFormat, typer.Option("--format", help="What to write.")] = ImageFormat.QCOW2,
    repository: Repository = None,
    repository_id: RepositoryId = None,
    encrypted: IsEncrypted = False,
    authenticated: IsAuthenticated = False,
    as_json: AsJson = False,
) -> None:
    """Export a capture as a set of images that need nothing of freezeframe: qcow2 files without backing files, each guest's
    domain XML, checksums, and a README that says how to use them with virsh and qemu-img.

    DIR appears when it is whole. Until then it is DIR.partial; after an interruption the same command goes on with that.
    """
    expected = stated(repository_id, encrypted=encrypted, authenticated=authenticated)
    opened = open_repository(repository, stated=expected, ask=True, for_hours=True)
    check_latest(opened, capture)
    manifest = opened.manifest(capture)
    keep_freed_memory()
    with progress() as on_progress:
        report = export_capture(
            opened, manifest, to, image_format=image_format, guests=guest or None, on_progress=on_progress
        )
    if as_json:
        print_json(report)
        return
    took = f"{bytes_text(report.data_bytes)} in {duration_text(report.seconds)}"
    out().print(f"Capture {report.capture_id} exported to {report.directory}: {took}.", soft_wrap=True, markup=False)


def import_(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A set that `freezeframe export` made.", show_default=False)
    ] = None,
    *,
    guest: Guests = None,
    xml: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For images from elsewhere: the guest, as `virsh dumpxml` prints it."),
    ] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET=FILE", help="With --xml: the image of a disk, as in vda=disk.vmdk. May be repeated."
        ),
    ] = None,
    image_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="With --xml: the images' format. For raw images say raw: a guest could fake another."
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="With --xml: a tag for the capture. May be repeated.")] = None,
    repository: Repository = None,
    as_json: AsJson = False,
) -> None:
    """Import images as a capture: a set that was exported, or any images that QEMU can read, with a guest's domain XML.

    The capture is labelled `crash`, whatever it was before, since nothing is proven of files that were outside. What the
    repository knows already is not stored again.
    """
    wanted = _wanted(directory, guest, xml, disk, image_format, tuple(tag or ()))
    opened = open_repository(repository, for_hours=True)
    keep_freed_memory()
    with unwinding():
        report = import_capture(opened, wanted, on_progress=_lines)
    if as_json:
        print_json(report)
        return
    read = bytes_text(sum(one.bytes_read for one in report.disks))
    stored = bytes_text(sum(one.bytes_stored for one in report.disks))
    took = duration_text(report.seconds)
    out().print(
        f"Imported as capture {report.capture_id}: {read} read, {stored} stored, in {took}.",
        soft_wrap=True,
        markup=False,
    )


def _wanted(
    directory: Path | None,
    guest: list[str] | None,
    xml: Path | None,
    disk: list[str] | None,
    image_format: str | None,
    tags: tuple[str, ...],
) -> Wanted:
    if directory is not None:
        if xml or disk or image_format or tags:
            raise typer.BadParameter("--xml, --disk, --format and --tag are for images without a set: leave DIR out")
        return from_set(directory, guest or None)
    if xml is None or guest:
        raise typer.BadParameter("give DIR, or --xml with --disk for each image")
    return from_images(xml, disk or [], load(HostSettings).host_id, image_format=image_format, tags=tags)


def _lines(guest: str, target: str, done: int, total: int) -> None:
    if done == 0:
        err().print(f"Importing disk {target} of guest {guest}, {bytes_text(total)}", soft_wrap=True, markup=False)

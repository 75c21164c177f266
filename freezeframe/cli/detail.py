"""Everything about one capture: guests, disks, hold windows; of its proof what follows from it (`proof` has the rest)."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from freezeframe.cli.following import consistency_text
from freezeframe.cli.output import bytes_text, fields, ms_text, out, table, when_text
from freezeframe.contract.doubts import doubts
from freezeframe.contract.proof import shortcomings
from freezeframe.printable import one_line
from freezeframe.repository import DiskCapture, GuestCapture, Manifest


def capture_document(manifest: Manifest) -> dict[str, object]:
    """The manifest, and what follows from its proof."""
    missing = shortcomings(manifest.proof) if manifest.proof else ["the capture has no proof"]
    doubtful = doubts(manifest.proof) if manifest.proof else []
    return {**manifest.model_dump(mode="json"), "shortcomings": missing, "doubts": doubtful}


def show_capture(manifest: Manifest) -> None:
    console = out()
    console.print(fields(_summary(manifest)))
    for guest in manifest.guests:
        console.print()
        _show_guest(console, guest)


def _summary(manifest: Manifest) -> list[tuple[str, str | Text]]:
    disks = [disk for _, disk in manifest.disks()]
    return [
        ("capture", manifest.capture_id),
        ("instant", f"{when_text(manifest.instant.at)} UTC"),
        ("kind", str(manifest.kind)),
        ("consistency", consistency_text(manifest.consistency)),
        ("proof", _proof_text(manifest)),
        ("hold", str(manifest.hold)),
        ("policy", str(manifest.policy)),
        ("group", manifest.group or "–"),
        ("tags", ", ".join(manifest.tags) or "–"),
        *_imported(manifest),
        ("size", f"{bytes_text(sum(disk.size_bytes for disk in disks))} in {len(disks)} disks"),
        ("read", bytes_text(sum(disk.bytes_read for disk in disks))),
        ("stored", bytes_text(sum(disk.bytes_stored for disk in disks))),
    ]


def _imported(manifest: Manifest) -> list[tuple[str, str | Text]]:
    """Where it comes from, and what is claimed of it there."""
    came = manifest.imported
    if came is None:
        return []
    if came.capture_id is None:
        return [("imported", "from images")]
    return [("imported", f"from an export of {came.capture_id}, which called itself {came.consistency}")]


def _show_guest(console: Console, guest: GuestCapture) -> None:
    held = f"held {ms_text(guest.hold_ms)}, " if guest.hold_ms is not None else ""
    console.print(
        Text.assemble((guest.name, "bold"), f" on {guest.host_id}: {held}", consistency_text(guest.consistency)),
        Text(guest.guest_uuid, "dim"),
        soft_wrap=True,
    )
    columns = ["disk", "size", "kind", "read", "stored", "source"]
    console.print(table(columns, [_disk_row(disk) for disk in guest.disks], right=["size", "read", "stored"]))
    for disk in guest.skipped:
        console.print(
            Text.assemble(("skipped ", "bold yellow"), one_line(f"{disk.target}: {disk.reason}")), soft_wrap=True
        )
    for warning in guest.warnings:
        console.print(Text.assemble(("warning ", "bold yellow"), one_line(warning)), soft_wrap=True)


def _disk_row(disk: DiskCapture) -> list[str]:
    kind = str(disk.kind)
    if disk.full_reason:
        kind += f": {disk.full_reason}"
    elif disk.parent_capture_id:
        kind += f" on {disk.parent_capture_id}"
    return [
        disk.target,
        bytes_text(disk.size_bytes),
        kind,
        bytes_text(disk.bytes_read),
        bytes_text(disk.bytes_stored),
        disk.source,
    ]


def _proof_text(manifest: Manifest) -> Text:
    """One line; `--proof` has the rest."""
    if manifest.proof is None:
        return Text("none", "yellow")
    missing = shortcomings(manifest.proof)
    if not missing:
        return Text("one instant: every guest was let go only after all were held and begun", "green")
    more = f", and {len(missing) - 1} more; see --proof" if len(missing) > 1 else "; see --proof"
    return Text(f"short of one instant: {missing[0]}{more}", "yellow")

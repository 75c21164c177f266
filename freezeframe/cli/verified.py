"""The text of a verification: sound captures, damage with its captures, and repairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

from freezeframe.cli.output import bytes_text, err, out
from freezeframe.contract.doubts import doubts
from freezeframe.printable import one_line
from freezeframe.repository import Manifest, VerifyReport
from freezeframe.repository.errors import ManifestUnreadable, NewerFormat, RepositoryDamaged
from freezeframe.repository.label import mislabels
from freezeframe.repository.verify import Damage

#: Before what a newer version has written, which is not damaged.
NEWER: Final = ("newer: ", "bold yellow")


#: What a manifest that cannot be read is: not what was written, of a later version, or refused by the storage.
_KINDS: Final = ("damaged", "newer", "unreadable")


class Labels:
    """Wrong labels of captures, and doubts about their proofs: reasons by capture id."""

    def __init__(self, captures: Sequence[Manifest]) -> None:
        self.wrong = {one.capture_id: found for one in captures if (found := mislabels(one))}
        self.doubtful = {one.capture_id: found for one in captures if one.proof and (found := doubts(one.proof))}

    def document(self) -> dict[str, object]:
        return {"mislabelled": list(self.wrong), "mislabels": self.wrong, "doubts": self.doubtful}


def show_report(report: VerifyReport, labels: Labels, unreadable: Sequence[ManifestUnreadable], *, sound: bool) -> None:
    _show_each("doubt", "bold yellow", labels.doubtful)
    _show_done(report)
    if sound:
        out().print(Text.assemble(("sound", "bold green"), f": {_looked(report)}"))
        return
    for error in unreadable:
        show_unreadable(error, " manifest")
    for one in report.newer:
        err().print(Text.assemble(NEWER, one_line(one.reason), places_text(one)), soft_wrap=True)
    for damage in report.damage:
        aside = " (set aside)" if damage.set_aside else ""
        said = f"{one_line(damage.reason)}{aside}{places_text(damage)}"
        err().print(Text.assemble(("damaged: ", "bold red"), said), soft_wrap=True)
    _show_each("mislabelled", "bold red", labels.wrong)
    if report.damaged_captures:
        out().print("Damaged captures: " + ", ".join(report.damaged_captures), soft_wrap=True)
    if labels.wrong:
        err().print("  → Believe the proof, not the label: `freezeframe captures show ID --proof` explains it.")
    _show_advice(report)
    if report.newer or any(isinstance(error, NewerFormat) for error in unreadable):
        err().print(f"  → {NewerFormat.advice}", soft_wrap=True)


def show_unreadable(error: ManifestUnreadable, more: str = "") -> None:
    """Show a manifest that cannot be read: damaged, newer, or refused by the storage."""
    kind = _kind(error)
    style = "bold yellow" if kind == "newer" else "bold red"
    err().print(Text.assemble((f"{kind}{more}: ", style), one_line(error.message)), soft_wrap=True)


def unreadable_document(unreadable: Sequence[ManifestUnreadable]) -> dict[str, list[str]]:
    """Return what programs are told of manifests that cannot be read, by kind."""
    return {kind: [one.message for one in unreadable if _kind(one) == kind] for kind in _KINDS}


def _kind(error: ManifestUnreadable) -> str:
    if isinstance(error, NewerFormat):
        return "newer"
    return "damaged" if isinstance(error, RepositoryDamaged) else "unreadable"


def _looked(report: VerifyReport) -> str:
    captures = f"{len(report.captures)} capture{'' if len(report.captures) == 1 else 's'}"
    share = f", {len(report.folders)} of 256 folders" if 0 < len(report.folders) < 256 else ""
    looked = f"{report.chunks_checked} chunks, {bytes_text(report.bytes_read)} read"
    return f"{captures}{share}, {looked} (tier {report.tier})"


def _show_done(report: VerifyReport) -> None:
    """Print notes on this host and on objects, and repairs."""
    if report.restrained is not None:
        err().print(Text.assemble(("suspect host: ", "bold red"), one_line(report.restrained)), soft_wrap=True)
    for note in report.notes:
        err().print(Text.assemble(("note: ", "bold yellow"), one_line(note)), soft_wrap=True)
    if report.bad_reads:
        text = f"{report.bad_reads} objects were wrong at the first look and right at the second: look at this machine."
        err().print(Text.assemble(("note: ", "bold yellow"), text), soft_wrap=True)
    for word, digests in (("written anew since", report.repaired), ("sound, and put back", report.put_back)):
        if digests:
            out().print(f"{len(digests)} of what was set aside: {word}.")
    if report.whole_again:
        out().print("Captures whole again: " + ", ".join(report.whole_again), soft_wrap=True)


def _show_advice(report: VerifyReport) -> None:
    if report.chunks and all(one.set_aside or "missing" in one.reason for one in report.chunks):
        err().print(
            "  → Capture these guests again: what they still have of it is then written anew, also for older captures."
        )
    elif report.chunks:
        err().print("  → What is not set aside stays in the way of being written anew: verify without --no-set-aside.")
    if report.indexes:
        err().print("  → A disk whose index is damaged is lost in that capture; restore it from another.")
    if report.restores:
        err().print("  → The repository is sound there: look at this machine, its scratch directory and its memory.")


def _show_each(word: str, style: str, reasons: Mapping[str, Sequence[str]]) -> None:
    for capture_id, found in reasons.items():
        for reason in found:
            err().print(Text.assemble((f"{word}: ", style), one_line(f"{capture_id}: {reason}")), soft_wrap=True)


def places_text(damage: Damage) -> str:
    """Every place that damage belongs to, a line each."""
    found = "".join(
        f"\n    {one.capture_id}  {one_line(f'guest {one.guest_name}, disk {one.target}')}" for one in damage.places
    )
    return f" It belongs to:{found}" if found else ""

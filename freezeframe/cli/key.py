"""`freezeframe key`: what opens a repository with keys, encrypted or authenticated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from freezeframe.cli.output import AsJson, err, out, print_json, table, when_text
from freezeframe.cli.secret import new_secret, open_repository
from freezeframe.cli.verified import NEWER
from freezeframe.repository.crypto import SlotInfo

key = typer.Typer(
    add_completion=False,
    help="What opens an encrypted or authenticated repository: passphrases and key files, each in a key slot of its own.",
    no_args_is_help=True,
)

LABEL_LENGTH_MAX = 100


def checked_label(label: str) -> str:
    if not 0 < len(label) <= LABEL_LENGTH_MAX or not label.isprintable():
        raise typer.BadParameter(f"a label is one line of 1 to {LABEL_LENGTH_MAX} characters")
    return label


@key.command("list")
def list_slots(*, as_json: AsJson = False) -> None:
    """List the key slots, oldest first. Labels are encrypted too, so this needs a passphrase or key file itself."""
    slots, keys = open_repository().encryption
    infos, damaged = slots.list(keys)
    newer, unreadable = slots.newer(keys), slots.unreadable()
    if as_json:
        wrong = {"damaged": damaged, "newer": newer, "unreadable": unreadable}
        print_json({"slots": [slot_document(info) for info in infos], **wrong})
        return
    show_damaged(damaged)
    show_unreadable(unreadable)
    for message in newer:
        err().print(Text.assemble(NEWER, message), soft_wrap=True)
    rows = [(info.slot_id, info.label, info.sort.replace("-", " "), when_text(info.created_at)) for info in infos]
    out().print(table(["id", "label", "opens with", "created (UTC)"], rows, whole=["id"]))


@key.command("add")
def add(
    label: Annotated[
        str,
        typer.Argument(metavar="LABEL", help="What to call it: whose it is, where it is kept.", callback=checked_label),
    ],
    key_file: Annotated[
        Path | None, typer.Option(help="A file of 32 random bytes or more.", show_default=False)
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="A file with a passphrase in it, and nothing else.", show_default=False)
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Let another passphrase or key file open the repository. Without a file a passphrase is asked for, twice.

    The settings (or a question before) open it first, so somebody who cannot open it cannot add to it either.
    """
    if key_file is not None and passphrase_file is not None:
        raise typer.BadParameter("a key slot opens with a key file or a passphrase, not with both")
    slots, keys = open_repository().encryption
    secret = new_secret(key_file, passphrase_file)
    slot_id = slots.add(keys, secret, label)
    if as_json:
        print_json({"id": slot_id, "label": label, "sort": secret.sort})
    else:
        out().print(Text(f"Key slot {slot_id} ({label}) is added."), soft_wrap=True)


@key.command("remove")
def remove(
    wanted: Annotated[str, typer.Argument(metavar="LABEL|ID", help="Its label, or the beginning of its id.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Let a passphrase or key file open the repository no more. The last key slot cannot be removed.

    The repository's own key stays the same: somebody who had this secret and kept a copy of its key slot can still read.
    If that counts, make a new repository.
    """
    slots, keys = open_repository().encryption
    info = slots.find(keys, wanted)
    slots.remove(keys, info.slot_id)
    if as_json:
        print_json({"removed": slot_document(info)})
    else:
        out().print(Text(f"Key slot {info.slot_id} ({info.label}) is removed."), soft_wrap=True)


def slot_document(info: SlotInfo) -> dict[str, object]:
    return {"id": info.slot_id, "label": info.label, "sort": info.sort, "created_at": info.created_at}


def show_damaged(messages: Sequence[str]) -> None:
    for message in messages:
        err().print(Text.assemble(("damaged: ", "bold red"), message), soft_wrap=True)


def show_unreadable(messages: Sequence[str]) -> None:
    for message in messages:
        err().print(Text.assemble(("unreadable: ", "bold red"), message), soft_wrap=True)

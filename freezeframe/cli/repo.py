"""`freezeframe repo`: make a repository, or look at the one there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from freezeframe.access import ConfiguredKey, expected_of, make_default_parent
from freezeframe.cli.check import check
from freezeframe.cli.copy import copy
from freezeframe.cli.feature import feature
from freezeframe.cli.key import checked_label, show_damaged, show_unreadable, slot_document
from freezeframe.cli.output import AsJson, bytes_text, fields, out, print_json, when_text
from freezeframe.cli.pin import pin
from freezeframe.cli.secret import new_secret, open_repository, protection_of, remember
from freezeframe.cli.verdicts import show_warnings
from freezeframe.cli.verified import unreadable_document
from freezeframe.cli.verify_status import age_text, status_document, unreadable_records
from freezeframe.repository import Repository, Tier
from freezeframe.repository.config import default_chunk_bytes
from freezeframe.repository.crypto import Secret, SlotInfo, Suite
from freezeframe.repository.errors import ManifestUnreadable
from freezeframe.repository.store.address import is_same_place
from freezeframe.repository.verify.record import read_records
from freezeframe.settings import RepositorySettings, load

repo = typer.Typer(add_completion=False, help="Make a repository, or look at the one there is.", no_args_is_help=True)
repo.command("check")(check)
repo.command("copy")(copy)
repo.command("pin")(pin)
repo.add_typer(feature, name="feature")

_SIZE = re.compile(r"(\d+)\s*(?:([kKmM])(?:i?[bB])?)?")
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def _chunk_bytes(text: str) -> int:
    """`1M`, `512K`, `1048576`."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _FACTORS[(match[2] or "").lower()] if match else 0
    if not (4 << 10) <= size <= (16 << 20) or size.bit_count() != 1:
        raise typer.BadParameter("a chunk size is a power of two from 4K to 16M, as in 256K or 1M")
    return size


@repo.command("init")
def init(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            help="An empty directory, or one to be made, or s3://bucket/prefix; without it, where FREEZEFRAME_REPOSITORY says.",
            show_default=False,
        ),
    ] = None,
    chunk_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="How large its chunks are, a power of two from 4K to 16M; without it 512K in a directory, 4M in object "
            "storage. Smaller ones find more that is equal, and are more files. It cannot be changed later.",
            show_default=False,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="With --encrypt or --authenticate: a file of 32 random bytes or more that opens it.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str,
        typer.Option(help="With --encrypt or --authenticate: what to call its first key slot.", callback=checked_label),
    ] = "first",
    *,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt all that will be in it. Without its key nothing but sizes shows.")
    ] = False,
    authenticate: Annotated[
        bool,
        typer.Option(
            "--authenticate",
            help="Authenticate all that will be in it, and do not encrypt it. Everybody who reaches it can read it, and nobody "
            "without its key can write what is believed. freezeframe itself needs the key to read it, too.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new, empty repository. The directory above it must exist: one that does not may be a mount that is missing. That
    above the default place is made.

    In object storage the bucket must exist, and the server must have what docs/repository.md asks of it; that is tried out.

    With --encrypt or --authenticate it opens with the key file that is named here, else with what FREEZEFRAME_KEY_FILE or
    FREEZEFRAME_PASSPHRASE_FILE name, else with a passphrase that is asked for. **Who loses all of its keys loses it.**
    """
    settings = load(RepositorySettings)
    place = address or settings.repository
    chunk_bytes = default_chunk_bytes(place) if chunk_size is None else _chunk_bytes(chunk_size)
    if encrypt and authenticate:
        raise typer.BadParameter("--encrypt authenticates too: say one of it and --authenticate")
    secret = _secret(settings, key_file, wanted=encrypt or authenticate)
    if address is None:
        make_default_parent(settings)
    _refuse_unexpected(settings, place, encrypt=encrypt, authenticate=encrypt or authenticate)
    suite = Suite.AUTHENTICATED if authenticate else Suite.ENCRYPTED
    made = Repository.init(place, chunk_bytes=chunk_bytes, secret=secret, suite=suite, label=label)
    remember(made)
    if as_json:
        print_json(_config(made))
    else:
        how = "" if made.config.suite is None else f", {made.config.suite.value}"
        out().print(f"Repository {made.config.id} is at {made.address}{how}.", soft_wrap=True)


def _refuse_unexpected(settings: RepositorySettings, place: str, *, encrypt: bool, authenticate: bool) -> None:
    """Raise BadParameter for a repository that the settings would refuse as soon as it is made."""
    expected = expected_of(settings)
    if expected.is_nothing or not is_same_place(place, settings.repository):
        return
    if expected.encrypted not in {None, encrypt}:
        raise typer.BadParameter("FREEZEFRAME_REPOSITORY_ENCRYPTED says otherwise: it and --encrypt must agree")
    if expected.authenticated not in {None, authenticate}:
        raise typer.BadParameter(
            "FREEZEFRAME_REPOSITORY_AUTHENTICATED says otherwise: it must agree with --encrypt and --authenticate"
        )
    if expected.id is not None:
        raise typer.BadParameter(
            f"FREEZEFRAME_REPOSITORY_ID expects {expected.id} there, and a new repository gets an id of its own: is a mount "
            "missing? To make a new one, take that setting away first"
        )


def _secret(settings: RepositorySettings, key_file: Path | None, *, wanted: bool) -> Secret | None:
    """Return the first secret of the new repository; None if it is to have no keys. Raises SecretUnusable."""
    configured = ConfiguredKey.of(settings)
    if wanted:
        return new_secret(key_file) if key_file or not configured.expected else configured.secret()
    if key_file is not None:
        raise typer.BadParameter(
            "--key-file is for a repository that is encrypted or authenticated: say --encrypt too, or --authenticate"
        )
    if configured.expected:
        raise typer.BadParameter(
            "a key is configured, with which none without keys can be used: say --encrypt, or --authenticate"
        )
    return None


@repo.command("info")
def info(*, as_json: AsJson = False) -> None:
    """Show the repository: where it is, how it stores, how much is in it."""
    opened = open_repository()
    unreadable: list[ManifestUnreadable] = []
    manifests = opened.manifests(on_damaged=unreadable.append)
    stored = sum(disk.bytes_stored for manifest in manifests for _, disk in manifest.disks())
    shown = sum(disk.size_bytes for manifest in manifests for _, disk in manifest.disks())
    free = opened.store.free_bytes()
    if as_json:
        counts = {"captures": len(manifests), "bytes_stored": stored, "bytes_of_disks": shown, "free_bytes": free}
        verified = status_document(read_records(opened.objects))
        print_json({**_config(opened), **counts, **_slots(opened), **verified, **unreadable_document(unreadable)})
        return
    records = read_records(opened.objects)
    pairs = [
        ("repository", opened.address),
        ("id", str(opened.config.id)),
        ("chunk size", bytes_text(opened.config.chunk_bytes)),
        ("captures", str(len(manifests))),
        ("newest", f"{when_text(manifests[0].instant.at)} UTC" if manifests else "–"),
        ("disks shown", f"{bytes_text(shown)} in all captures"),
        ("stored", f"{bytes_text(stored)} written by these captures"),
        ("free", bytes_text(free) if free is not None else "not known"),
        ("encryption", _encryption(opened)),
        ("verified", age_text(records, Tier.REHASHED)),
    ]
    out().print(
        fields([*pairs, *((kind, one) for kind, found in unreadable_document(unreadable).items() for one in found)])
    )
    show_warnings(unreadable_records(records))


def _config(opened: Repository) -> dict[str, object]:
    shown = opened.config.model_dump(mode="json", exclude={"mac"})
    return {"address": opened.address, **shown, **protection_of(opened)}


def _slots(opened: Repository) -> dict[str, object]:
    if not opened.config.authenticated:
        return {"key_slots": [], "damaged_key_slots": [], "unreadable_key_slots": []}
    slots, keys = opened.encryption
    infos, damaged = slots.list(keys)
    wrong = {"damaged_key_slots": damaged, "unreadable_key_slots": slots.unreadable()}
    return {"key_slots": [slot_document(info) for info in infos], **wrong}


def _encryption(opened: Repository) -> str:
    """`AES-256-GCM; opens with: first (passphrase), host-a (key file)`"""
    if not opened.config.authenticated:
        return "none"
    slots, keys = opened.encryption
    infos, damaged = slots.list(keys)
    show_damaged(damaged)
    show_unreadable(slots.unreadable())
    how = "AES-256-GCM" if opened.config.encrypted else "none, but authenticated (AES-256-GMAC)"
    return f"{how}; opens with: " + ", ".join(map(_slot_text, infos))


def _slot_text(info: SlotInfo) -> str:
    return f"{info.label} ({info.sort.replace('-', ' ')})"

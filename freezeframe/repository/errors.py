"""Errors of a repository. Damage has its own exit code, because another try never mends it."""

# ruff: noqa: N818 - these are what a caller catches and a user meets: named for what happened, not for being an error

from __future__ import annotations

from freezeframe.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_REPOSITORY, FreezeframeError


class RepositoryError(FreezeframeError):
    """The repository cannot be used.

    `transient`: nobody has refused; the same may work in a while (a server that is restarted, a network that is away).
    """

    code = "repository"
    exit_code = EXIT_REPOSITORY

    def __init__(self, message: str, *, advice: str | None = None, transient: bool = False) -> None:
        super().__init__(message, advice=advice)
        self.transient = transient


class RepositoryNotFound(RepositoryError):
    """There is no repository at that place."""

    code = "repository-not-found"
    advice = "Check the address and that the file system is mounted; `freezeframe repo init` makes a new repository."


class RepositoryExists(RepositoryError):
    """There is something at that place already."""

    code = "repository-exists"
    advice = "Use the repository that is there, or give the path of an empty directory."


class RepositoryUnsupported(RepositoryError):
    """The repository is of a version, or has a feature, that this program does not know."""

    code = "repository-unsupported"
    advice = "Use a newer freezeframe, or the one that made this repository."


class NewerFormat(RepositoryError):
    """An object has a form that this version does not know: a newer one has written it, and nothing is wrong with it."""

    code = "newer-format"
    exit_code = EXIT_REPOSITORY
    advice = "Update freezeframe on this machine. Nothing is wrong with what a newer version has written: leave it where it is."


class RepositoryFull(RepositoryError):
    """No space, no inodes or no quota is left."""

    code = "repository-full"
    advice = "Free space where the repository is, or extend it, and capture again; what is sealed is not affected."


class RepositoryNotWritable(RepositoryError):
    """The repository cannot be written to."""

    code = "repository-not-writable"
    advice = "Check the mount, its permissions and the kernel log; what is sealed is not affected."


class ManifestTooLarge(RepositoryNotWritable):
    """A manifest would be larger than what is read again."""

    code = "manifest-too-large"
    advice = "Capture fewer guests at a time; what is sealed is not affected."


class DeletesRefused(RepositoryNotWritable):
    """This machine takes nothing away from the repository, by its settings, and was asked to."""

    code = "deletes-refused"
    exit_code = EXIT_REFUSED
    advice = (
        "Run it on the machine that does retention, whose credentials may delete. FREEZEFRAME_REPOSITORY_DELETES=no is set "
        "here; docs/security.md has the rights of each."
    )


class RepositoryNotReadable(RepositoryError):
    """The repository cannot be read."""

    code = "repository-not-readable"
    advice = "Check the mount, its permissions and the kernel log."


class TemporaryStorageFailed(RepositoryError):
    """This machine's directory for temporary files cannot be used."""

    code = "temporary-storage"
    advice = "Free space there, or set FREEZEFRAME_TMP_DIR to another local directory, on a disk."


class ObjectNotFound(RepositoryError):
    """A store has no object of that name."""

    code = "object-not-found"
    exit_code = EXIT_NOT_FOUND


class AlreadyExists(RepositoryError):
    """Create-if-absent found another object of that name."""

    code = "already-exists"


class ParentUnfit(RepositoryError):
    """The parent's index is of a disk of another size or chunk size, or began another checkpoint."""

    code = "parent-unfit"
    advice = "Capture this disk in full."


class CaptureNotFound(RepositoryError):
    """No capture has that id."""

    code = "capture-not-found"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe captures` shows the captures of the repository."


class SessionLost(RepositoryError):
    """The session of a capture is gone, ended or expired: what it relied on may have been collected."""

    code = "session-lost"
    advice = "Capture again; a capture must be sealed within seven days of its request (docs/repository.md)."


class SealedTooLate(SessionLost):
    """A manifest became visible when what it refers to may have been collected already: it is taken back."""

    code = "sealed-too-late"


class SealedAfterFailure(SealedTooLate):
    """A manifest became visible when others had been told already that the capture has failed: it is taken back."""

    code = "sealed-after-failure"


class ClockDrift(RepositoryError):
    """The clocks of this host and of the store are too far apart to compare their times."""

    code = "clock-drift"
    advice = (
        "Correct the clock that is wrong; `timedatectl timesync-status` or `chronyc tracking` shows whether NTP works. "
        "A directory has the clock of its file server. Then try again: nothing was changed."
    )


class SealUndecided(RepositoryError):
    """A capture became visible while its session was ended as failed: whoever sealed it may still take it back."""

    code = "seal-undecided"
    advice = "It is asked for again."


class CollectionOverdue(RepositoryError):
    """A run of garbage collection has taken longer than its term."""

    code = "collection-overdue"
    advice = "Run it again: the next one goes on where this one ended. Nothing is lost."


class AmbiguousGuest(RepositoryError):
    """Captures have more than one guest of the name by which one is meant."""

    code = "ambiguous-guest"
    exit_code = EXIT_REFUSED


class WouldForgetAll(RepositoryError):
    """A retention would leave nothing of some captures that are counted together."""

    code = "would-forget-all"
    exit_code = EXIT_REFUSED
    advice = (
        "Add a rule that keeps some of them, as --keep-last 1; if all of them are to go, say --allow-none-left too."
    )


class SecretUnusable(RepositoryError):
    """A passphrase or a key file cannot be used."""

    code = "secret-unusable"
    advice = "Check the file that FREEZEFRAME_KEY_FILE or FREEZEFRAME_PASSPHRASE_FILE names, and its permissions."


class KeyNotConfigured(RepositoryError):
    """The repository has keys, and there is nothing to open it with."""

    code = "key-not-configured"
    advice = (
        "Let FREEZEFRAME_KEY_FILE name its key file, or FREEZEFRAME_PASSPHRASE_FILE a file with its passphrase; "
        "on a terminal a passphrase is asked for."
    )


class WrongKey(RepositoryError):
    """No key slot of the repository opens with this passphrase or key file."""

    code = "wrong-key"
    advice = "Check the passphrase, or which file the settings name, and that this is the repository you mean."


class NotEncrypted(RepositoryError):
    """A key is configured, and the repository is not encrypted."""

    code = "not-encrypted"
    advice = (
        "It may be another repository, or its config may have been changed. If it is meant to be without encryption, unset "
        "FREEZEFRAME_KEY_FILE and FREEZEFRAME_PASSPHRASE_FILE."
    )


class NotAuthenticated(RepositoryError):
    """A repository is expected to which only holders of its key can write, and this is another."""

    code = "not-authenticated"


class WrongRepository(RepositoryError):
    """The repository at an address is not the one that is expected there."""

    code = "wrong-repository"
    exit_code = EXIT_REFUSED


class RepositoryNotKnown(RepositoryError):
    """A repository without keys that was never used here, and that nobody has agreed to."""

    code = "repository-not-known"
    exit_code = EXIT_REFUSED
    advice = (
        "If it should be encrypted or authenticated, this is not the one: check the address. If it should not, run this again "
        "and agree, or set FREEZEFRAME_REPOSITORY_ENCRYPTED=no for the repository that FREEZEFRAME_REPOSITORY names."
    )


class KeySlotNotFound(RepositoryError):
    """The repository has no such key slot."""

    code = "key-slot-not-found"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe key list` shows the key slots."


class LastKeySlot(RepositoryError):
    """Without its last key slot nobody could open the repository again."""

    code = "last-key-slot"
    advice = "Add another with `freezeframe key add` first."


class RepositoryDamaged(RepositoryError):
    """Something in the repository is not what was written."""

    code = "repository-damaged"
    exit_code = EXIT_DAMAGED
    advice = "`freezeframe verify` names every capture that is affected."


class ConfigDamaged(RepositoryDamaged):
    """The repository's config cannot be read."""

    code = "config-damaged"
    advice = "Restore `config` from a copy of the repository; it is JSON of a few keys, see docs/repository.md."


class ConfigChanged(RepositoryDamaged):
    """The config is not the one that this repository was made with."""

    code = "config-changed"
    advice = (
        "Write nothing to this repository until you know who changed it; restore `config` from a copy that you trust."
    )


class FeatureNotKnown(RepositoryError):
    """A feature that cannot be switched on."""

    code = "feature-not-known"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe repo feature` shows those that this version knows; a newer one may know more."


class RepositoryRolledBack(RepositoryDamaged):
    """The repository is older than it was seen to be, or captures are missing that nobody has forgotten."""

    code = "repository-rolled-back"
    advice = (
        "Somebody may have put an older state of the store back, or taken captures away. Ask who looks after the store, and "
        "look into its backups."
    )


class NotPinned(RepositoryError):
    """There is no pin to compare a repository with."""

    code = "not-pinned"
    exit_code = EXIT_NOT_FOUND
    advice = (
        "If it is as it should be, pin it, as this user: `freezeframe repo pin`. Else compare it with a pin that was kept: "
        "`freezeframe repo pin --check --against FILE`."
    )


class KeySlotDamaged(RepositoryDamaged):
    """A key slot is not what was written."""

    code = "key-slot-damaged"
    advice = (
        "Open the repository with another passphrase or key file, or restore `keys/` from a copy of the repository."
    )


class ObjectDamaged(RepositoryDamaged):
    """An object of a repository with keys is not what was written under its name."""

    code = "object-damaged"


class SessionDamaged(RepositoryDamaged):
    """A session or the record of a run of garbage collection cannot be read."""

    code = "session-damaged"
    advice = "Delete that object if it is older than a week; else wait until it is. Until then no garbage is collected."


class CollectionStopped(RepositoryDamaged):
    """Garbage collection cannot tell what is needed, because something is damaged. Nothing was changed."""

    code = "collection-stopped"
    advice = (
        "Restore what is named from a copy of the repository, or `freezeframe forget` the captures it belongs to "
        "(`freezeframe verify --all` names them); then collect again."
    )


class ManifestUnreadable(RepositoryError):
    """A manifest cannot be read: it is damaged, or newer, or the storage refuses it. That stops no other capture."""

    code = "manifest-unreadable"


class ManifestDamaged(RepositoryDamaged, ManifestUnreadable):
    """A manifest is not what was written."""

    code = "manifest-damaged"
    advice = "Restore the file from a copy of the repository; other captures are not affected."


class ManifestNewer(NewerFormat, ManifestUnreadable):
    """A newer version has written a manifest."""

    code = "manifest-newer"


class ManifestNotReadable(RepositoryNotReadable, ManifestUnreadable):
    """The storage refuses one manifest, while it gives others: by its permissions, or as a disk has a bad sector."""

    code = "manifest-not-readable"
    advice = (
        "Check that file's permissions and the kernel log of the machine that has it; other captures are not affected."
    )


class ObjectNotReadable(RepositoryNotReadable):
    """The storage refuses one small document, while it gives others."""

    code = "object-not-readable"
    advice = (
        "Check that file's permissions and the kernel log of the machine that has it; other documents are not affected."
    )


class ObjectIsNoFile(ObjectNotReadable):
    """A link to nothing, or a folder, has the name of an object."""

    code = "object-is-no-file"
    advice = (
        "Bring back the file that the link leads to, or mount the file system that has it; a folder with such a name is none "
        "of the repository's. Nothing is deleted until then."
    )


class IndexDamaged(RepositoryDamaged):
    """A disk's index is missing, or is not what was written."""

    code = "index-damaged"


class ChunkDamaged(RepositoryDamaged):
    """A chunk is missing, or is not what was written."""

    code = "chunk-damaged"


def is_store_trouble(error: BaseException) -> bool:
    """Return True for an error of the storage as a whole, which may be over in a while: nothing is wrong with an object."""
    if isinstance(error, ManifestTooLarge):
        return False
    places = (RepositoryNotFound, RepositoryFull, RepositoryNotWritable, RepositoryNotReadable, TemporaryStorageFailed)
    return isinstance(error, (OSError, *places)) or (isinstance(error, RepositoryError) and error.transient)

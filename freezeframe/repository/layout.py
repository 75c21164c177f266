"""Where things are in a repository: the one place that turns a digest or an id into the plain name of an object. In a
repository with keys `protection.py` gives it another.
"""

from __future__ import annotations

import re
from typing import Final

CONFIG: Final = "config"
CHUNKS: Final = "chunks"
INDEXES: Final = "indexes"
MANIFESTS: Final = "manifests"
FORGOTTEN: Final = "forgotten"
SESSIONS: Final = "sessions"
CONDEMNED: Final = "condemned"
TMP: Final = "tmp"
KEYS: Final = "keys"
DAMAGED: Final = "damaged"
VERIFIED: Final = "verified"
LINEAGE: Final = "lineage"
FEATURES: Final = "features"

#: Folders that a repository may lack that was made before they were thought of: an empty one is as good as none.
LATE_FOLDERS: Final = frozenset({DAMAGED, FEATURES, LINEAGE, VERIFIED})

DIGEST_BYTES: Final = 32

#: The digest that stands for a hole. No data has it: that would be a preimage of zero under SHA-256.
ZERO_DIGEST: Final = bytes(DIGEST_BYTES)

#: Chunk sizes are powers of two between these. 4 KiB is the block of the file systems around us; above 16 MiB a guest's
#: small write costs too much.
CHUNK_BYTES_MIN: Final = 4 << 10
CHUNK_BYTES_MAX: Final = 16 << 20

#: What is read in one piece is never longer than this: a file whose length is damaged (a sparse file may claim any) must not
#: take the memory. A sealed envelope is 132 bytes longer than its 16 MiB; 256 MiB are the manifest of some 8,000 guests.
_CHUNK_OBJECT_BYTES_MAX: Final = CHUNK_BYTES_MAX + (4 << 10)
_SMALL_OBJECT_BYTES_MAX: Final = 1 << 20
OBJECT_BYTES_MAX: Final = 256 << 20

#: Folders per kind: at 512 KiB a chunk 100 TiB is 820,000 names in each, and 1 PiB 8 million, which XFS finds at once and ext4
#: still has room for (10 million without its feature large_dir).
FAN_OUT: Final = tuple(f"{n:02x}" for n in range(256))

#: Everything that is made here, and nothing that could leave a directory or a prefix.
_ULID: Final = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_NAME = re.compile(rf"(condemned/{_ULID}/)?[a-z]+(/[0-9a-f]{{2}})?(/[0-9A-Za-z]+(\.json)?)?")

_FANNED_OUT = re.compile(rf"(?:condemned/{_ULID}/)?[a-z]+/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")
_TEMPORARY = re.compile(r"tmp/[0-9a-f]{32}")
_DAMAGED = re.compile(r"damaged/([0-9a-f]{64})(G[0-9a-f]{32}|\.json)?")
_SUSPECT = re.compile(r"verified/suspect[0-9a-f]{64}\.json")
#: What file systems, filers and their clients put at the top of a directory that is as good as empty.
_OF_THE_FILE_SYSTEM = re.compile(
    r"lost\+found|\.nfs.*|\.snapshots?|~snapshot|\.zfs|#snapshot|#recycle|@Recycle|@eaDir|\.DS_Store|\.Trash-?.*|aquota\..*|"
    r"System Volume Information|\$RECYCLE\.BIN"
)
_KEY_SLOT = re.compile(r"keys/([0-9a-f]{32})\.json")
_HIDDEN_MANIFEST = re.compile(r"manifests/([0-9a-f]{64})")
_MANIFEST = re.compile(rf"manifests/({_ULID})\.json")
_TOMBSTONE = re.compile(rf"lineage/{_ULID}\.json")
_SESSION = re.compile(rf"sessions/({_ULID})\.json")
_RUN = re.compile(rf"condemned/({_ULID})\.json")
#: Whole names of objects, but for those in `tmp/`, which are nobody's yet.
_OBJECT = re.compile(
    rf"(?:condemned/{_ULID}/)?(?:(?:chunks|indexes)/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}|manifests/(?:{_ULID}\.json|[0-9a-f]{{64}}))|"
    rf"forgotten/(?:{_ULID}\.json|[0-9a-f]{{64}})|(?:sessions|condemned|lineage)/{_ULID}\.json|"
    r"config|features/[0-9A-Za-z]+\.json|keys/[0-9a-f]{32}\.json|damaged/[0-9a-f]{64}(?:G[0-9a-f]{32}|\.json)?|"
    r"verified/(?:[0-9a-f]{2}|indexes|restored|suspect[0-9a-f]{64})\.json"
)
_CONDEMNED_FOLDER = re.compile(rf"condemned/{_ULID}/([a-z]+/[0-9a-f]{{2}}|manifests)")


def folders(*, authenticated: bool) -> list[str]:
    """Every folder of a repository, parents first. `init` makes them all, so that no writer makes one but LATE_FOLDERS."""
    late, keys = sorted(LATE_FOLDERS), [KEYS] if authenticated else []
    top = [CHUNKS, INDEXES, MANIFESTS, FORGOTTEN, SESSIONS, CONDEMNED, TMP, *late, *keys]
    return [*top, *(f"{kind}/{two}" for kind in (CHUNKS, INDEXES) for two in FAN_OUT)]


def locate(digest: bytes) -> str:
    """The object that holds a chunk. The seam for packs: today every chunk is an object of its own."""
    return fanned_out(CHUNKS, digest)


def index_name(digest: bytes) -> str:
    return fanned_out(INDEXES, digest)


def fanned_out(kind: str, digest: bytes) -> str:
    """`chunks/ab/ab01…`"""
    text = digest.hex()
    return f"{kind}/{text[:2]}/{text}"


def key_of(name: str) -> bytes | None:
    """Return the 32 bytes in the name of a chunk or an index, condemned or not; None if it is no such name."""
    match = _FANNED_OUT.fullmatch(name)
    return bytes.fromhex(match[2]) if match else None


def is_object(name: str) -> bool:
    """Return True for the whole name of an object of this format's, of which nothing else may have it."""
    return _OBJECT.fullmatch(name) is not None


def is_temporary(name: str) -> bool:
    """Return True for the name of what a writer stages in `tmp/`."""
    return _TEMPORARY.fullmatch(name) is not None


def manifest_name(capture_id: str) -> str:
    return f"{MANIFESTS}/{capture_id}.json"


def capture_id_of(name: str) -> str | None:
    """The capture a manifest's name speaks of; None if it is no manifest's name."""
    match = _MANIFEST.fullmatch(name)
    return match[1] if match else None


def hidden_manifest_of(name: str) -> bytes | None:
    """The 32 bytes in the name of an encrypted repository's manifest; None if it is no such name."""
    match = _HIDDEN_MANIFEST.fullmatch(name)
    return bytes.fromhex(match[1]) if match else None


def forgotten_name(name: str) -> str:
    """Where the manifest of that name is once its capture is forgotten."""
    return f"{FORGOTTEN}/{name.rpartition('/')[2]}"


def session_name(session_id: str) -> str:
    return f"{SESSIONS}/{session_id}.json"


def session_id_of(name: str) -> str | None:
    """The id in a session's name; None if it is no session's name."""
    match = _SESSION.fullmatch(name)
    return match[1] if match else None


def run_name(run_id: str) -> str:
    """The record of a run of garbage collection."""
    return f"{CONDEMNED}/{run_id}.json"


def run_id_of(name: str) -> str | None:
    """The run a record's name speaks of; None if it is no such name."""
    match = _RUN.fullmatch(name)
    return match[1] if match else None


def condemned_folder(run_id: str) -> str:
    return f"{CONDEMNED}/{run_id}"


def condemned_name(run_id: str, name: str) -> str:
    """Where a run puts the object, or the folder, that is called `name`."""
    return f"{condemned_folder(run_id)}/{name}"


def is_condemned_folder(folder: str) -> bool:
    """Return True for a folder that the first object that is moved into it makes, and the last one takes with it."""
    return _CONDEMNED_FOLDER.fullmatch(folder) is not None


def key_slot_name(slot_id: str) -> str:
    return f"{KEYS}/{slot_id}.json"


def key_slot_id_of(name: str) -> str | None:
    """The slot's id; None if it is no key slot's name."""
    match = _KEY_SLOT.fullmatch(name)
    return match[1] if match else None


def object_bytes_max(name: str) -> int:
    """The length of the longest object of that kind that a reader takes in one piece; indexes are read as streams."""
    if name.startswith(f"{CHUNKS}/"):
        return _CHUNK_OBJECT_BYTES_MAX
    return _SMALL_OBJECT_BYTES_MAX if name == CONFIG or name.startswith(f"{KEYS}/") else OBJECT_BYTES_MAX


def damaged_name(name: str) -> str:
    """Where the object of that name is set aside."""
    return f"{DAMAGED}/{name.rpartition('/')[2]}"


def damaged_document(name: str) -> str:
    return f"{damaged_name(name)}.json"


def damaged_name_of_its_own(name: str, token: str) -> str:
    """Return another name for the object that is set aside: nobody else moves anything there. `token`: 32 random hex digits."""
    return f"{damaged_name(name)}G{token}"


def set_aside_stem(name: str) -> str | None:
    """The last part of the first name of what is set aside, from its name or its document's; None for anything else."""
    match = _DAMAGED.fullmatch(name)
    return match[1] if match else None


def tombstone_name(tombstone_id: str) -> str:
    return f"{LINEAGE}/{tombstone_id}.json"


def is_tombstone(name: str) -> bool:
    """Return True for the name of a tombstone."""
    return _TOMBSTONE.fullmatch(name) is not None


def feature_name(feature: str) -> str:
    """The record that a feature was switched on."""
    return f"{FEATURES}/{feature}.json"


def verified_name(what: str) -> str:
    return f"{VERIFIED}/{what}.json"


def is_suspect(name: str) -> bool:
    """Return True for the name of a mark of a suspect disk."""
    return _SUSPECT.fullmatch(name) is not None


def is_of_the_file_system(name: str) -> bool:
    """Return True for what the store itself puts at the top of an empty directory, and nobody has written there."""
    return _OF_THE_FILE_SYSTEM.fullmatch(name) is not None


def folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def checked_name(name: str) -> str:
    """The name of an object or a folder, as it is. Raises ValueError if it can be neither."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an object")
    return name


def is_chunk_size(chunk_bytes: int) -> bool:
    return CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES_MAX and chunk_bytes.bit_count() == 1


def digest_of(text: str) -> bytes:
    """The 32 bytes of a digest in hex. Raises ValueError if it is not one."""
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"{text!r} is not a SHA-256")
    return digest

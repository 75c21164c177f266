"""Protection: what a repository's objects are called, and what stands around their bytes.

                 digest, capture id ──▶ name        plain form ──▶ stored form
plain            layout.py's                        the same
authenticated    made with the names key            a sealed object, bound to its name, in which the bytes show
encrypted        made with the names key            a sealed object, bound to its name
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from ulid import ULID

from freezeframe.repository import layout
from freezeframe.repository.crypto import cipher, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezeframe.repository.crypto.keys import Keys


Stored = bytes | bytearray | memoryview


class Protection(Protocol):
    """Any thread may call. `reveal…` raise ObjectDamaged for what is not the stored form of an object of that name."""

    def locate(self, digest: bytes) -> str:
        """The name of the object that holds a chunk."""

    def index_name(self, digest: bytes) -> str: ...

    def key(self, kind: str, digest: bytes) -> bytes:
        """The 32 bytes that are in the name of a chunk or an index."""

    def keying(self, kind: str) -> Callable[[bytes], bytes] | None:
        """Return the function that makes such keys of very many digests; None if a digest is its own key."""

    def manifest_name(self, capture_id: str) -> str: ...

    def capture_id_of(self, name: str) -> str | None:
        """The capture a manifest's name speaks of; None if it is no manifest's name."""

    def stored_bytes(self, plain_bytes: int) -> int:
        """The length of the stored form."""

    def protect(self, name: str, data: bytes | memoryview) -> Stored:
        """The stored form of an object's bytes: of a memoryview itself, if nothing stands around it."""

    def reveal(self, name: str, stored: bytes) -> bytes: ...

    def protect_stream(self, name: str, source: BinaryIO) -> BinaryIO:
        """Return the stored form of what `source` has from its place on; `source` is the caller's to close.

        It can be read again from that place on.
        """

    def reveal_stream(self, name: str, source: BinaryIO) -> BinaryIO:
        """Seekable. Closes `source` with it; each read may raise ObjectDamaged."""


class Plain:
    """No protection."""

    locate = staticmethod(layout.locate)
    index_name = staticmethod(layout.index_name)
    manifest_name = staticmethod(layout.manifest_name)
    capture_id_of = staticmethod(layout.capture_id_of)

    def key(self, kind: str, digest: bytes) -> bytes:  # noqa: ARG002
        return digest

    def keying(self, kind: str) -> None:
        pass

    def stored_bytes(self, plain_bytes: int) -> int:
        return plain_bytes

    def protect(self, name: str, data: bytes | memoryview) -> Stored:  # noqa: ARG002
        return data

    def reveal(self, name: str, stored: bytes) -> bytes:  # noqa: ARG002
        return stored

    def protect_stream(self, name: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002
        return source

    def reveal_stream(self, name: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002
        return source


class Sealed:
    """Sealed objects under names that only the keys give; the suite says whether they are encrypted."""

    def __init__(self, keys: Keys, suite: cipher.Suite) -> None:
        self._keys = keys
        self._cipher = cipher.ObjectCipher(keys.objects, suite)

    def locate(self, digest: bytes) -> str:
        return layout.fanned_out(layout.CHUNKS, self.key(layout.CHUNKS, digest))

    def index_name(self, digest: bytes) -> str:
        return layout.fanned_out(layout.INDEXES, self.key(layout.INDEXES, digest))

    def key(self, kind: str, digest: bytes) -> bytes:
        return self._keys.naming(kind)(digest)

    def keying(self, kind: str) -> Callable[[bytes], bytes]:
        return self._keys.naming(kind)

    def manifest_name(self, capture_id: str) -> str:
        hidden = self._keys.hide_id(ULID.from_str(capture_id).bytes)
        return f"{layout.MANIFESTS}/{hidden.hex()}"

    def capture_id_of(self, name: str) -> str | None:
        hidden = layout.hidden_manifest_of(name)
        shown = None if hidden is None else self._keys.show_id(hidden)
        return None if shown is None else str(ULID(shown))

    def stored_bytes(self, plain_bytes: int) -> int:
        return cipher.sealed_bytes(plain_bytes)

    def protect(self, name: str, data: bytes | memoryview) -> Stored:
        return self._cipher.seal(name, data)

    def reveal(self, name: str, stored: bytes) -> bytes:
        return self._cipher.unseal(name, stored)

    def protect_stream(self, name: str, source: BinaryIO) -> BinaryIO:
        return stream.sealing(self._cipher, name, source)

    def reveal_stream(self, name: str, source: BinaryIO) -> BinaryIO:
        return stream.unsealing(self._cipher, name, source)


PLAIN: Final = Plain()

"""The base of every message on the wire, and the shapes that messages share."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: A guest's UUID in canonical lower-case form; used in file names, so nothing else may pass.
GuestUuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

#: A capture's ULID; sorts by time. Used in file names and keys.
CaptureId = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]

#: A host's id: a DNS name. It becomes part of queue names and keys, so no separators of those.
HostId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]

#: A disk as the guest knows it: libvirt's <target dev='…'/>.
DiskTarget = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{1,15}$")]

#: Where a guest has mounted a filesystem, in the guest's own words: a path, or a drive of Windows.
Mountpoint = Annotated[str, StringConstraints(max_length=1024, pattern=r"^(/[^\x00-\x1f]*|[A-Za-z]:\\?)$")]

#: A SHA-256 in hex: the name of a chunk or an index in the repository.
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

#: A label that people give: a group, a tag.
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/=-]{0,127}$")]


#: For a field that came later and mostly says nothing: left out then, so that a reader which does not know it reads the rest.
#: With a value in it the document is refused by such a reader, as it should be.
UNLESS_EMPTY = Field(exclude_if=lambda value: not value)


class Shape(BaseModel):
    """A value inside a message: frozen, nothing unknown in it, and no number that is none or has no end."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


#: The version of messages that this program writes and reads.
OWN_VERSION: Final = 1


class Message(Shape):
    """A message of its own: a shape with a version, so that a receiver can refuse what it does not know."""

    v: Literal[1] = OWN_VERSION

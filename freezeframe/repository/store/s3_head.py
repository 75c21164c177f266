"""Look at an object of a bucket, without its bytes.

HEAD ─▶ 200    it is there
     ─▶ 404 ─▶ GET ─▶ 404 NoSuchKey    it is not there
                   ─▶ 404 of a proxy   nobody knows
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import obstore

from freezeframe.repository.errors import ObjectNotFound
from freezeframe.repository.store.s3_fault import asking_for_the_head, reading, understood

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store as Bucket


def head_of(bucket: Bucket, name: str, place: str) -> ObjectMeta:
    """Return what the server says of an object. Raises RepositoryNotReadable; ObjectNotFound only if the server says so.

    An answer to HEAD has no body, so a proxy that has lost its server looks like a server without the object.
    """
    with suppress(ObjectNotFound):
        return said_of(bucket, name, place)
    with reading(place):
        answer = obstore.get(bucket, name)
        return understood(answer.meta, place, answer.attributes)


def said_of(bucket: Bucket, name: str, place: str) -> ObjectMeta:
    """Return the answer to HEAD. Raises RepositoryNotReadable; ObjectNotFound for any 404, be it of a proxy."""
    with asking_for_the_head(place):
        answer = obstore.get(bucket, name, options={"head": True})  # which has what `head` has not: the content's type
        return understood(answer.meta, place, answer.attributes)

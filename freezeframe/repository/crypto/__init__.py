"""Encryption and authentication of a repository. The format and its reasons are in docs/repository.md; these are its words.

A *secret* is what a person or a host has: a passphrase or a key file. It opens a *key slot*, in which the *master key* is
wrapped, and every other key is derived from that. A *sealed object* is an object as such a repository stores it, and its
*suite* says whether it is encrypted. All cryptography is OpenSSL's, through `cryptography` and `hashlib`, in calls that
release the GIL.
"""

from freezeframe.repository.crypto.cipher import ObjectCipher, Suite
from freezeframe.repository.crypto.kdf import Kdf, KeyFileKdf, ScryptKdf
from freezeframe.repository.crypto.keys import Keys, new_master
from freezeframe.repository.crypto.secret import NO_KEY, KeySource, NoKey, Secret, SecretSort
from freezeframe.repository.crypto.slots import KeySlots, SlotInfo

__all__ = [
    "NO_KEY",
    "Kdf",
    "KeyFileKdf",
    "KeySlots",
    "KeySource",
    "Keys",
    "NoKey",
    "ObjectCipher",
    "ScryptKdf",
    "Secret",
    "SecretSort",
    "SlotInfo",
    "Suite",
    "new_master",
]

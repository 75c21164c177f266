"""A disk that QEMU decrypts, on Debian 13: virtqemud has passphrases from virtsecretd. The other lab's own tests."""

from __future__ import annotations

from tests.lab.test_decrypted_disk import (
    pytestmark,
    test_it_is_refused_unless_its_plain_text_is_agreed_to,
    test_what_the_guest_overwrites_meanwhile_is_plain_text_nowhere,
    vault,
)

__all__ = [
    "pytestmark",
    "test_it_is_refused_unless_its_plain_text_is_agreed_to",
    "test_what_the_guest_overwrites_meanwhile_is_plain_text_nowhere",
    "vault",
]

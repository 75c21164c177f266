"""A disk that QEMU decrypts, on Debian 13: virtqemud has passphrases from virtsecretd. The other lab's own tests."""

from __future__ import annotations

from tests.lab.test_decrypted_disk import (
    pytestmark,
    test_a_keeper_of_passphrases_that_is_restarted_before_the_hold_costs_nothing,
    test_a_keeper_of_passphrases_that_is_restarted_in_the_muster_is_told_as_that,
    test_it_is_refused_unless_its_plain_text_is_agreed_to,
    test_what_the_guest_overwrites_meanwhile_is_plain_text_nowhere,
    vault,
)

__all__ = [
    "pytestmark",
    "test_a_keeper_of_passphrases_that_is_restarted_before_the_hold_costs_nothing",
    "test_a_keeper_of_passphrases_that_is_restarted_in_the_muster_is_told_as_that",
    "test_it_is_refused_unless_its_plain_text_is_agreed_to",
    "test_what_the_guest_overwrites_meanwhile_is_plain_text_nowhere",
    "vault",
]

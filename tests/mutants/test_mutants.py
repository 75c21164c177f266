"""The tests notice dangerous changes to safety-critical code: a suite for `ops/test --long`."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ops.mutants.__main__ import CRITICAL, KEPT, ROOT, TARGET, TESTS, all_mutants, tried, write_account
from ops.mutants.account import Account, known_equivalents
from ops.mutants.kept import Kept


@pytest.mark.long
@pytest.mark.timeout(12 * 3600)
def test_dangerous_changes_are_noticed(record_property: Callable[[str, object], None]) -> None:
    kept = Kept(KEPT, ROOT, TESTS)
    account = Account(tried(all_mutants(CRITICAL), TESTS, os.cpu_count() or 1, kept), known_equivalents())
    write_account(kept, CRITICAL)
    for package, counts in account.by_package().items():
        record_property(package, ", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    record_property("caught", f"{account.caught_share:.1%}")
    assert account.caught_share >= TARGET, account.told()

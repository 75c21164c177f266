"""Mutants: single dangerous changes to safety-critical code, each tried against the tests that run the changed line.

    sources ─▶ mutation: all single changes ─▶ coverage: which tests run that line ─▶ trial: these tests, on a copy
                                                                                        │ one fails or hangs: caught
    account: caught and survived, by package; a survivor is a missing test, ◀───────────┘ all pass: survived
    or stands in equivalent.toml with the reason why it changes nothing that matters

    kept: each verdict, as soon as it is known, for the next run ─▶ page: the account in docs/long.md

Words. A *mutant* is one changed place of one file. It is *caught* if a test fails or does not end, *survives* if all tests
that run its line pass, and is *unreached* if no test runs its line. An *equivalent* mutant behaves as the original does.

mutmut and cosmic-ray were looked at first. mutmut leaves decorated functions out and changes strings and arguments, most of
which mypy or a reader would notice; cosmic-ray starts all tests for each mutant. Both know no dropped statements, and the
changes that a review found unnoticed were mostly such: an fsync, a journal line, a raise.
"""

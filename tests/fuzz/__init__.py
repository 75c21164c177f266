"""Fuzzing of what reads a repository's bytes: `python -m tests.fuzz chunk --seconds 60`.

A *target* is one reader with what must hold of it, whatever it is given: an error of ours, or a result that is sound; in
bounded memory, and soon. A *seed* is a real object, made anew each time. The *corpus* is what was worth keeping of earlier
runs: it is replayed by an ordinary test. *Mending* is making the checksum or the digest of a mutated input right, without
which nothing behind it would ever be reached.

    seeds, corpus ─▶ mutate ─▶ mend, half of the time ─▶ target.check ─▶ sound | an error of ours | a finding
"""

"""The benches behind `ops/bench`: figures of ours beside those of peers and floors, from one run, on one guest.

Machines are shared and noisy, so what counts are ratios within a run, never seconds across runs; rounds of all contestants are
interleaved and the best round of each is taken, which is the one least disturbed. Each bench prints one JSON object
as its last line.
"""

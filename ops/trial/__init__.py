"""What `ops/try` does: the main job on a lab, from nothing to bytes compared, and an account of it.

Words: the *truth* of a disk is what the guest had at the instant, read by a tool that shares no code with Freezeframe:
qemu-img, from the export, before any transfer has begun. A restored disk is *identical* if every byte of it equals the truth.

That the export was begun while the guest was held is not taken on trust either. The guest's writer notes in memory when each
of its records was acknowledged, and a held guest acknowledges nothing; so the last record on the captured disk must lie at
a gap at least as long as the hold.
"""

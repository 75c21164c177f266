"""The steps of the path that run on a host, a file each, named as in the drawing: prepare, hold, transfer, release.

Each is a function of the host and an order and answers with a result; `frame` is what is around all of them. Whatever a
step changes on a guest it writes to the journal first, and `undo` is the one place that takes changes back, for release,
for recovery and for a prepare that did not succeed.
"""

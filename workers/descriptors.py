"""Descriptors of a process: a connection to libvirt takes two, and a hold has two connections for each guest."""

import resource


def raise_limit() -> int:
    """Let this process open as many files as it may; return how many. The usual soft limit, 1,024, is that of select(2)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most

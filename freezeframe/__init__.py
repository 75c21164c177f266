"""Freezeframe's shared language: what the orchestrator, the hosts' workers and the people at a terminal have in common.

Here live the message contracts (`contract`), the settings, the errors, the repository, the barrier, the client and the
CLI. Nothing in here imports `orchestrator` or `workers`, and neither of those imports the other: they meet in
`freezeframe.contract` only. import-linter holds that rule.

Words (one word for one thing, everywhere): a *guest* is a libvirt domain, known by its UUID; a *host* is a machine with a
libvirt daemon and our workers; a *capture* is one run over one or more guests, and shows one *instant*; a *hold* is how
a guest is kept still, the *hold window* how long; a *manifest* is the one document that makes a capture exist.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("freezeframe")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0+unknown"

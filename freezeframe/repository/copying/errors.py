"""Reasons for which nothing is copied. Nothing was written to the destination."""

# ruff: noqa: N818 - as in freezeframe/repository/errors.py

from __future__ import annotations

from freezeframe.errors import EXIT_REFUSED
from freezeframe.repository.errors import RepositoryError


class SameRepository(RepositoryError):
    """The destination is the source, or one lies within the other."""

    code = "same-repository"
    exit_code = EXIT_REFUSED
    advice = "Name another place for the copy."


class NotACopy(RepositoryError):
    """The repository at the destination is not a copy of the source."""

    code = "not-a-copy"
    exit_code = EXIT_REFUSED
    advice = "Name the copy that was made of this repository, or an empty place and --create."


class CopyDiverged(RepositoryError):
    """The copy has captures that the source has neither had nor forgotten."""

    code = "copy-diverged"
    exit_code = EXIT_REFUSED

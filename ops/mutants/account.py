"""What became of the mutants, by package, and which survivors are known to be equivalent."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.mutants.trial import Outcome, Verdict

#: Survivors that change nothing that matters, each with the reason.
EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def known_equivalents(path: Path = EQUIVALENT) -> dict[str, str]:
    """Return key and reason of each mutant that is known to be equivalent. Raise ValueError for one without a reason."""
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    known = {str(row["key"]): str(row.get("reason", "")) for row in rows}
    if unexplained := [key for key, reason in known.items() if not reason.strip()]:
        raise ValueError(f"no reason is given for {unexplained[0]}")
    return known


@dataclass(frozen=True)
class Account:
    """The verdicts, judged."""

    verdicts: Sequence[Verdict]
    equivalents: Mapping[str, str]

    @property
    def survivors(self) -> list[Verdict]:
        """Return each mutant that no test catches and that is not known to be equivalent."""
        return [one for one in self.verdicts if one.outcome is not Outcome.CAUGHT and not self._is_equivalent(one)]

    @property
    def caught_share(self) -> float:
        """Return caught over all that are not equivalent; 1 if there is none."""
        judged = [one for one in self.verdicts if one.outcome is Outcome.CAUGHT or not self._is_equivalent(one)]
        return sum(one.outcome is Outcome.CAUGHT for one in judged) / len(judged) if judged else 1.0

    def by_package(self) -> dict[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {}
        for one in self.verdicts:
            equivalent = one.outcome is not Outcome.CAUGHT and self._is_equivalent(one)
            counts.setdefault(package_of(one.mutant.path), Counter())["equivalent" if equivalent else one.outcome] += 1
        return dict(sorted(counts.items()))

    def told(self) -> str:
        """Return the account as text: a line a package, then each survivor."""
        lines = [
            f"{package}: " + ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            for package, counts in self.by_package().items()
        ]
        lines += [f"{one.outcome}: {one.mutant.path}:{one.mutant.line} {one.mutant.key}" for one in self.survivors]
        return "\n".join([*lines, f"caught: {self.caught_share:.1%} of {len(self.verdicts)}"])

    def _is_equivalent(self, verdict: Verdict) -> bool:
        return verdict.mutant.key in self.equivalents


def package_of(path: str) -> str:
    """Return the two first parts of a path: freezeframe/repository, workers/guard, orchestrator."""
    parts = Path(path).parent.parts
    return "/".join(parts[:2])


def unused_equivalents(verdicts: Iterable[Verdict], equivalents: Mapping[str, str]) -> list[str]:
    """Return the keys of equivalents whose code is gone; only for a run over all mutants."""
    met = {one.mutant.key for one in verdicts}
    return sorted(set(equivalents) - met)

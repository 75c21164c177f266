"""`python -m tests.fuzz TARGET --seconds 60`: exit status 1 for a finding."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument(
        "--keep", type=Path, help="where new inputs and findings stay; a temporary directory if not given"
    )
    parser.add_argument("--json", action="store_true", help="only a JSON object a line")
    asked = parser.parse_args()
    keep = asked.keep or Path(tempfile.mkdtemp(prefix="ff-fuzz-kept-"))
    findings = 0
    for name in TARGETS if asked.target == "all" else [asked.target]:
        outcome = fuzz(TARGETS[name], asked.seconds, keep / name)
        findings += outcome.finding is not None
        print(json.dumps({**asdict(outcome), "finding": outcome.finding and str(outcome.finding)}), flush=True)
        if outcome.finding and not asked.json:
            print(outcome.said, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

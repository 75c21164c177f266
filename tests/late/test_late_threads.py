"""No unit test rests on how soon a thread begins: a suite for `ops/test --long`."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SELECTED = "not lab and not long and not install"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_unit_tests_pass_when_threads_begin_late(record_property: Callable[[str, object], None]) -> None:
    seed = random.randrange(1 << 16)  # noqa: S311  no secret
    record_property("seed", seed)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.late.threads",
        "-p",
        "no:cacheprovider",
        "-m",
        SELECTED,
    ]
    command += ["--numprocesses", str(os.cpu_count() or 1), "--dist", "worksteal", "tests/unit"]
    with tempfile.TemporaryDirectory(prefix="ff") as short:  # tests bind Unix sockets below it
        ended = subprocess.run(
            [*command, "--basetemp", f"{short}/t"],
            cwd=ROOT,
            env={**os.environ, "FREEZEFRAME_LATE_SEED": str(seed), "FREEZEFRAME_TEST_LONG": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert ended.returncode == 0, ended.stdout[-20_000:]
    assert passed is not None
    record_property("passed", passed[1])

"""Running a target for a while, and what came of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import Target

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"

#: Longest input, in bytes. Real objects are longer; what a reader decides upon is in the first few hundred.
MAX_BYTES = 4096
#: Of the whole process, in which Python, pydantic and OpenSSL take some 70 MiB. An input that takes it beyond is a finding.
RSS_LIMIT_MIB = 256
#: Seconds for one input; beyond that it counts as a hang.
INPUT_TIMEOUT_S = 20

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """`coverage`: edges of our readers' bytecode that were reached. `finding` is None, or the input that was one."""

    target: str
    seconds: int
    executions: int
    coverage: int
    peak_rss_mib: int
    finding: Path | None
    said: str


def fuzz(target: Target, seconds: int, keep: Path) -> Outcome:
    """Inputs that are new to the fuzzer, and a finding, go to `keep`."""
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ff-fuzz-") as directory:
        seeds, found = Path(directory) / "seeds", Path(directory) / "found"
        for place in (seeds, found):
            place.mkdir()
        for number, seed in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(seed)
        kept = [str(one) for one in (CORPUS / target.name, seeds) if one.is_dir()]
        command = [
            *(sys.executable, "-m", "tests.fuzz.harness", target.name),
            *(f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-rss_limit_mb={RSS_LIMIT_MIB}"),
            *(f"-timeout={INPUT_TIMEOUT_S}", "-print_final_stats=1", f"-artifact_prefix={found}/"),
            *(str(keep), *kept),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        return _outcome(target, seconds, keep, found, done)


def _outcome(target: Target, seconds: int, keep: Path, found: Path, done: subprocess.CompletedProcess[str]) -> Outcome:
    findings = [one.rename(keep / one.name) for one in found.iterdir()]
    executed, peak, covered = _EXECUTED.findall(done.stderr), _PEAK.findall(done.stderr), _COVERED.findall(done.stderr)
    if not executed or not covered or (done.returncode and not findings):
        raise RuntimeError(f"the fuzzer did not run: {done.stderr[-2000:]}")
    return Outcome(
        target=target.name,
        seconds=seconds,
        executions=int(executed[-1]),
        coverage=int(covered[-1][0]),
        peak_rss_mib=int(peak[-1]),
        finding=findings[0] if findings else None,
        said=(done.stdout + done.stderr)[-3000:] if findings else "",
    )

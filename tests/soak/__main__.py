"""`make soak`: every row at its full size, one after the other, each within its bound; failed rows do not stop it.

    python -m tests.soak [-k row05 ...] [--scale 0.01] [--again] [--list] [--page]

What a row tried and measured is printed and kept in .soak/KEY.json. A row that passed at this revision and
scale is not run again unless asked, so an interrupted soak is resumed. `--page` writes the tables of
docs/reliability.md anew: the rows, and what is in .soak.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.soak import page
from tests.soak.rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".soak"
GRACE_S = 60
"""How long pytest may take to clean up after its time is over."""
TAIL = 40
"""Lines of a failed row's log that are shown."""


@dataclass
class Result:
    """How one row went."""

    key: str
    outcome: str
    """passed, missed (nothing lost, a figure not reached), failed, too long or skipped."""
    seconds: float
    scale: float
    revision: str
    date: str
    load: str
    machine: str
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        facts = page.told(self.reports)
        facts += [f"MISSED {missed}" for r in self.reports for missed in r["missed"]]
        return f"{self.key}  {self.outcome} in {self.seconds:.0f} s  {'; '.join(facts)}"


def main() -> int:
    """The exit code: 0 when no row failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("-k", action="append", default=[], metavar="ROW", dest="wanted")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full size (1)")
    parser.add_argument("--again", action="store_true", help="rows that have passed, too")
    parser.add_argument("--list", action="store_true", help="name the rows, run none")
    parser.add_argument("--page", action="store_true", help="write docs/reliability.md, run none")
    asked = parser.parse_args()
    rows = [r for r in ROWS if not asked.wanted or any(w in r.key for w in asked.wanted)]
    if asked.list:
        for row in rows:
            print(f"{row.key:10} {row.size:30} at most {row.bound_s // 60:3} min  {row.fault}")
        return 0
    if asked.page:
        page.write(RESULTS)
        return 0
    if not rows:
        parser.error(f"no row is called so; there are {', '.join(row.key for row in ROWS)}")
    RESULTS.mkdir(exist_ok=True)
    results = [_have(row, asked.scale, again=asked.again) for row in rows]
    print(f"\n{'=' * 30} the soak")
    for result in results:
        print(result.text)
    failed = [result.key for result in results if result.outcome not in ("passed", "skipped")]
    print(f"not as promised: {', '.join(failed)}; {RESULTS}" if failed else "nothing was lost")
    return 1 if failed else 0


def _have(row: Row, scale: float, *, again: bool) -> Result:
    path = RESULTS / f"{row.key}.json"
    if path.exists() and not again:
        known = Result(**json.loads(path.read_text()))
        if (known.outcome, known.scale, known.revision) == ("passed", scale, _revision()):
            print(f"{row.key}: has passed at this revision; --again runs it again")
            return known
    print(f"{row.key}: {row.fault}: {row.size}, at most {row.bound_s // 60} minutes", flush=True)
    result = _run(row, scale)
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(result.text, flush=True)
    if result.outcome not in ("passed", "skipped"):
        lines = (RESULTS / f"{row.key}.log").read_text(errors="replace").splitlines()
        print("\n".join(lines[-TAIL:]), flush=True)
    return result


def _run(row: Row, scale: float) -> Result:
    reports = RESULTS / f"{row.key}.jsonl"
    reports.unlink(missing_ok=True)
    begun = time.monotonic()
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "-m", "not live and not sdk",
        "-o", "tmp_path_retention_policy=failed", "-o", "tmp_path_retention_count=1", "--timeout", str(row.bound_s), *(f"tests/faults/{name}" for name in row.long),
    ]  # fmt: skip
    env = {
        **os.environ,
        "HIVECTL_SOAK_SCALE": str(scale),
        "HIVECTL_SOAK_REPORTS": str(reports),
    }
    with (RESULTS / f"{row.key}.log").open("wb") as log:
        tests = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            code = tests.wait(row.bound_s)
            outcome = {0: "passed", 5: "skipped"}.get(code, "failed")
        except subprocess.TimeoutExpired:
            outcome = "too long"
            _end(tests)
        except KeyboardInterrupt:
            _end(tests)
            raise
    told = (
        [json.loads(line) for line in reports.read_text().splitlines()] if reports.exists() else []
    )
    if outcome == "passed" and scale >= 1 and any(report["missed"] for report in told):
        outcome = "missed"
    return Result(
        row.key, outcome, round(time.monotonic() - begun, 1), scale, _revision(),
        time.strftime("%Y-%m-%d"), " ".join(f"{n:.0f}" for n in os.getloadavg()),
        f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}", told,
    )  # fmt: skip


def _end(tests: subprocess.Popen[bytes]) -> None:
    """Let it clean up, then not."""
    tests.send_signal(signal.SIGINT)
    try:
        tests.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        tests.kill()
        tests.wait()


def _revision() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())

"""Run the benchmarks, each in a process of its own, one after the other.

    python -m benchmarks [--quick] [--rounds N] [--minutes 20] [NAME ...]
    python -m benchmarks --report

Each prints its figures and writes `benchmarks/results/NAME.json`; at the end all are compared with their targets. A
benchmark that fails or needs more than LIMIT_S is told and the others still run, as long as the minutes last; figures
never fail anything.
`--report` measures nothing and writes the results that are there into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import figures, report

NAMES = (
    "ingest",
    "first_event",
    "warm",
    "cli",
    "start",
    "idle",
    "journal",
    "get",
    "restart",
    "fanout",
    "broadcast",
    "stalled",
    "daemon_fanout",
    "tls",
    "agents",
    "one_viewer",
    "flat_out",
    "queue",
)
LIMIT_S = 600.0
GRACE_S = 60
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def argv_of(name: str, given: argparse.Namespace) -> list[str]:
    argv = [sys.executable, "-m", f"benchmarks.bench_{name}", "--rounds", str(given.rounds)]
    argv += ["--json", str(figures.RESULTS / f"{name}.json")]
    if given.quick:
        argv += ["--quick"]
    return argv


def run(argv: list[str], limit_s: float) -> bool:
    """Whether it ended well and in time. Else it is interrupted, and ends what it started.

    It has a session of its own: Ctrl-C reaches us alone, and it from us, once."""
    root = Path(__file__).parents[1]
    with subprocess.Popen(argv, cwd=root, start_new_session=True) as process:
        try:
            return process.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            figures.say(f"stopped: it needed more than {limit_s:.0f} seconds")
            return False
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="smaller sizes, still all rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20.0, help="most time for all (20)")
    parser.add_argument("--report", action="store_true", help="write docs/benchmarks.md and end")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    if given.report:
        report.write(PAGE, report.read(figures.RESULTS))
        return 0
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the first may have been ignored where we come from
        signal.signal(number, _interrupt)
    figures.RESULTS.mkdir(exist_ok=True)
    names = given.names or NAMES
    ends = time.monotonic() + given.minutes * 60
    failed = []
    for name in names:
        left_s = ends - time.monotonic()
        if left_s <= 0:
            figures.say(f"left out: {name}; the {given.minutes:g} minutes are over")
        if left_s <= 0 or not run(argv_of(name, given), min(LIMIT_S, left_s)):
            failed.append(name)
        print(flush=True)
    print(report.summary(report.read(figures.RESULTS), names), flush=True)
    if failed:
        figures.say(f"did not finish: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""Run the benchmarks, each in a process of its own, one after the other.

    python -m benchmarks [--quick] [--rounds N] [NAME ...]

Each prints its figures and writes `benchmarks/results/NAME.json`. A benchmark that fails is told and the others
still run; figures never fail anything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import figures

NAMES = (
    "ingest",
    "first_event",
    "warm",
    "cli",
    "start",
    "idle",
    "journal",
    "restart",
    "fanout",
    "broadcast",
    "stalled",
    "daemon_fanout",
    "tls",
    "queue",
)
QUICK_JOURNAL = ["--lines", "200000", "--append-lines", "20000"]


def argv_of(name: str, given: argparse.Namespace) -> list[str]:
    argv = [sys.executable, "-m", f"benchmarks.bench_{name}", "--rounds", str(given.rounds)]
    argv += ["--json", str(figures.RESULTS / f"{name}.json")]
    if given.quick:
        argv += QUICK_JOURNAL if name == "journal" else ["--quick"]
    return argv


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="smaller sizes, still all rounds")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    figures.RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in given.names or NAMES:
        done = subprocess.run(argv_of(name, given), cwd=Path(__file__).parents[1], check=False)
        if done.returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        figures.say(f"did not finish: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

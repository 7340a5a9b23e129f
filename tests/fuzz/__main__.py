"""`python -m tests.fuzz [TARGET...] [--seconds N]`: coverage-guided fuzzing, bounded in time.

Needs the extra `fuzz` (atheris). Each target runs in a process of its own; what it finds is kept in
`fuzz-findings/`, and the exit code is 1 then. Figures go to standard output.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FINDINGS = ROOT / "fuzz-findings"
NAMES = ("decoder", "frames", "http", "stream", "journal", "sanitiser", "settings", "rules")
_INSTRUMENTED = ["hivectl", "websockets", "tomllib"]
_MOST_BYTES = 4096
_GRACE_S = 900


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"some of: {', '.join(NAMES)}; none = all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    targets = wanted.targets or NAMES
    if unknown := set(targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if wanted.inside:
        _fuzz(targets[0], wanted.seconds)
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed; install it with: pip install -e '.[fuzz]'")
        return 2
    results = [_run(target, wanted.seconds) for target in targets]
    return int(any(results))


def _run(target: str, seconds: int) -> bool:
    """Run one target; whether something was found."""
    FINDINGS.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(seconds), "--inside"]
    done = subprocess.run(
        argv,
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + _GRACE_S,
    )
    text = done.stderr + done.stdout
    runs = re.findall(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)", text, re.MULTILINE)
    ended = re.findall(r"Done (\d+) runs in (\d+) second", text)
    runs_n, took = ended[-1] if ended else (runs[-1][0] if runs else "0", "?")
    _, edges, features, kept = runs[-1] if runs else ("", "0", "0", "0")
    verdict = "nothing found" if done.returncode == 0 else "FOUND"
    print(
        f"{target:10} {int(runs_n):>9,} runs in {took} s, {edges} edges, {features} features,"
        f" {kept} inputs kept: {verdict}",
        flush=True,
    )
    if done.returncode:
        print("\n".join(text.splitlines()[-40:]), flush=True)
    return done.returncode != 0


def _fuzz(target: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz import targets
    run = targets.TARGETS[target]
    with tempfile.TemporaryDirectory(prefix="hivectl-fuzz-") as corpus:
        for number, seed in enumerate(targets.seeds(target)):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
            run(seed)
        flags = [
            f"-max_total_time={seconds}", f"-max_len={_MOST_BYTES}", "-timeout=20", "-rss_limit_mb=2048",
            f"-artifact_prefix={FINDINGS}/{target}-", "-print_final_stats=1",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *flags, corpus], run)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

"""The small C programs of the benchmarks, compiled on the spot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks import figures

HERE = Path(__file__).parent


def compile_into(root: Path, *names: str) -> dict[str, Path]:
    """The programs by name, compiled into `root`; empty, and said why, where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        figures.say("skipped: there is no C compiler (cc) for the viewers; install gcc or clang")
        return {}
    made = {}
    for name in names:
        made[name] = root / name
        source = HERE / f"{name}.c"
        subprocess.run(
            [compiler, "-O2", "-std=gnu11", "-o", str(made[name]), str(source)], check=True
        )
    return made

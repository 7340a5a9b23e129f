"""What hivectl is compared with and has to be installed: found here, and installed only when asked to.

    python -m benchmarks.references              # what is here, and how to get the rest
    python -m benchmarks.references --install [NAME ...]

Packages go to `.references`, by npm and pip, and nowhere else; what comes with the system is only looked
for. A benchmark asks `find`: it gets None, and one line is told, when its reference is not here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / ".references"
INSTALL_S = 1800
ASK_S = 60
MENDED = "make bench-refs"
IS_THERE = "import sys; from importlib.util import find_spec; sys.exit(not find_spec(sys.argv[1]))"
VERSION_OF = (
    "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
)

PARTS_OF = """import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print("no", name)"""


class NotInstalled(Exception):  # noqa: N818
    """An installation did not work; the text says why."""


@dataclass(frozen=True)
class Npm:
    """A package of npm in a directory of its own. Where it is: its directory."""

    package: str
    wanted: str

    def place(self, root: Path) -> Path:
        return root / self.package.rpartition("/")[2]

    def find(self, root: Path) -> Path | None:
        place = self.place(root)
        found = place / "node_modules" / self.package
        return (
            found if (place / ".installed").exists() and (found / "package.json").exists() else None
        )

    def version(self, where: Path) -> str:
        return str(json.loads((where / "package.json").read_text())["version"])

    def install(self, root: Path) -> None:
        npm, place = shutil.which("npm"), self.place(root)
        if npm is None:
            raise NotInstalled("there is no npm; on Debian and Ubuntu: apt install nodejs npm")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "package.json").write_text('{"private": true}\n')
        # What is optional is Claude itself, once for each kind of machine: ours is a stand-in.
        argv = [npm, "install", "--omit=optional", "--no-audit", "--no-fund"]
        _run([*argv, f"{self.package}@{self.wanted}"], place, _with_headers())
        (place / ".installed").touch()

    hint = MENDED


@dataclass(frozen=True)
class Pip:
    """Packages of PyPI in one environment for all. Where they are: its interpreter."""

    module: str
    wanted: tuple[str, ...]

    def find(self, root: Path) -> Path | None:
        own = root / "python" / "bin" / "python"
        for python in (own, Path(sys.executable)):
            if python.exists() and _ask([str(python), "-c", IS_THERE, self.module]) is not None:
                return python
        return None

    def version(self, where: Path) -> str:
        return _ask([str(where), "-c", VERSION_OF, self.module.replace("_", "-")]) or "?"

    def install(self, root: Path) -> None:
        place = root / "python"
        if not (place / "bin" / "python").exists():
            root.mkdir(parents=True, exist_ok=True)
            _run([sys.executable, "-m", "venv", "--without-pip", str(place)], root)
        pip = [sys.executable, "-m", "pip", "--python", str(place), "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", *self.wanted], root)

    hint = MENDED


@dataclass(frozen=True)
class OnPath:
    """A program of the system."""

    program: str
    hint: str
    version_flag: str = "--version"

    def find(self, _root: Path) -> Path | None:
        found = shutil.which(self.program)
        return Path(found) if found else None

    def version(self, where: Path) -> str:
        return (_ask([str(where), self.version_flag]) or "?").split("\n", maxsplit=1)[0]

    def install(self, root: Path) -> None:
        if self.find(root) is None:
            raise NotInstalled(f"it comes with the system: {self.hint}")


Reference = Npm | Pip | OnPath
CLAUDE_CODE_UI, TS_SDK, PY_SDK, FASTAPI, UVLOOP, NATS, CC, NODE = NAMES = (
    "claude-code-ui",
    "typescript-sdk",
    "python-sdk",
    "fastapi",
    "uvloop",
    "nats-server",
    "cc",
    "node",
)
REFERENCES: Mapping[str, Reference] = {
    CLAUDE_CODE_UI: Npm("@siteboon/claude-code-ui", "^1.12.0"),
    TS_SDK: Npm("@anthropic-ai/claude-agent-sdk", ">=0.3.0"),
    PY_SDK: Pip("claude_agent_sdk", ("claude-agent-sdk>=0.2.186",)),
    FASTAPI: Pip("fastapi", ("fastapi", "uvicorn>=0.40,<1", "websockets>=16.0")),
    # What makes FastAPI as quick as it gets: uvicorn takes them by itself.
    UVLOOP: Pip("uvloop", ("uvloop>=0.21", "httptools>=0.6.4", "msgspec>=0.20")),
    NATS: OnPath("nats-server", "apt install nats-server"),
    CC: OnPath("cc", "apt install gcc libc6-dev"),
    NODE: OnPath("node", "apt install nodejs npm"),
}


@cache
def find(name: str, root: Path = HERE) -> Path | None:
    """Where a reference is; None, and told once how to get it, when it is not here."""
    reference = REFERENCES[name]
    found = reference.find(root)
    if found is None:
        print(f"skipped: {name} is not here ({reference.hint})", file=sys.stderr, flush=True)
    return found


@cache
def versions(root: Path = HERE) -> Mapping[str, str]:
    """Of all that are here."""
    found = ((name, one, one.find(root)) for name, one in REFERENCES.items())
    return {name: one.version(where) for name, one, where in found if where is not None}


def parts(python: Path, *packages: str) -> str:
    """Which of these packages an interpreter has, in words."""
    said = _ask([str(python), "-c", PARTS_OF, *packages]) or ""
    return ", ".join(said.splitlines())


def _with_headers() -> dict[str, str]:
    """Where the headers of node lie beside it, what is native is built with them; else npm does as it likes."""
    node = shutil.which("node")
    prefix = Path(node).resolve().parents[1] if node else Path("/nowhere")
    if not (prefix / "include" / "node" / "node.h").exists():
        return {}
    return {"npm_config_nodedir": str(prefix), "npm_config_build_from_source": "true"}


def _run(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> None:
    """Raises NotInstalled with the end of what was said."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{argv[0]} did not end within {INSTALL_S} seconds") from None
    if done.returncode:
        said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise NotInstalled(f"{Path(argv[0]).name} ended with {done.returncode}: {said}")


def _ask(argv: Sequence[str]) -> str | None:
    """What a program says to a short question; None when it fails."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip() or done.stderr.strip()


def install(names: Sequence[str], root: Path = HERE) -> bool:
    """Each that is not here yet; what does not work is told. True when all are here."""
    is_whole = True
    for name in names or NAMES:
        reference = REFERENCES[name]
        if reference.find(root) is None:
            print(f"installing {name} ...", flush=True)
            try:
                reference.install(root)
            except NotInstalled as error:
                print(f"{name}: not installed: {error}", flush=True)
                is_whole = False
    return is_whole


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--install", action="store_true", help="install what is not here yet")
    parser.add_argument("--dir", type=Path, default=HERE, help="another place than .references")
    given = parser.parse_args(argv)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no reference {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    is_whole = install(given.names, given.dir) if given.install else True
    here = versions(given.dir)
    for name in given.names or NAMES:
        told = here.get(name) or f"not here ({REFERENCES[name].hint})"
        print(f"{name:16} {told}")
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())

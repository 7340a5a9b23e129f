"""A real git repository for a test, driven by the installed git with no configuration but its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

WHO = {"user.name": "Ada", "user.email": "ada@example.org"}


class Repo:
    """A repository at `path`, with one commit unless `is_empty`."""

    def __init__(self, path: Path, *, is_empty: bool = False, has_identity: bool = True) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")
        if has_identity:
            for key, value in WHO.items():
                self.git("config", key, value)
        if not is_empty:
            self.commit({"a.txt": "one\n"}, "first")

    def git(self, *words: str, check: bool = True) -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
        }
        done = subprocess.run(
            ["git", *words], cwd=self.path, env=env, capture_output=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"git {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode("utf-8", "replace").rstrip("\n")

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def commit(self, files: dict[str, str], message: str = "more") -> str:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def branches(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()

    @property
    def status(self) -> list[str]:
        return self.git("status", "--porcelain").splitlines()

    @property
    def worktrees(self) -> int:
        """How many git knows of, beside the repository's own."""
        return self.git("worktree", "list", "--porcelain").count("worktree ") - 1

    def state(self) -> tuple[str, list[str], dict[str, bytes]]:
        """All that a refusal must leave as it was."""
        files = {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }
        return self.head, self.status, files

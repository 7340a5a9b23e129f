"""Clones of git: which addresses are taken, and a git that is bounded, asks nobody and is told no secret."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from hivectl.logic.redact import redact_text
from hivectl.model.errors import HiveError

LIMIT_S = 600.0
_ADDRESS = re.compile(r"(https|ssh|git|file)://\S+|[\w.-]+@[\w.-]+:\S+|/\S+")
_PARTS = re.compile(r"(?P<scheme>\w+)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_KEPT = (
    "PATH",
    "HOME",
    "SSH_AUTH_SOCK",
    "LANG",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
)


def check_address(repo: str, branch: str | None = None) -> None:
    """Raises HiveError INVALID_PARAMS for what is no address, would be an option of git, or holds a secret.

    The address is not repeated: it may hold a secret in a form that nobody here knows."""
    if carries_secret(repo):
        raise HiveError(
            "INVALID_PARAMS",
            "The address of the repository carries a password or token. Others on the machine would see it among"
            " git's arguments, and it would stay in the clone's .git/config.",
            hint="Give the address without it, and the secret to a credential helper of git (`git help credentials`),"
            " or clone by ssh: git@host:path.",
            details={"reason": "secret_in_address"},
        )
    if not _ADDRESS.fullmatch(repo) or repo.startswith("-") or (branch or "").startswith("-"):
        raise HiveError(
            "INVALID_PARAMS", "That is no address of a repository, or no name of a branch.",
            hint="Give https://..., ssh://..., user@host:path or an absolute path.",
        )  # fmt: skip


def carries_secret(repo: str) -> bool:
    """Whether a password or token is, or may be, part of the address.

    ssh takes a user's name and never a password. With https a name by itself is refused too: GitHub and others take
    tokens there, which no look can tell from names; git has `credential.<url>.username` for names."""
    parts = _PARTS.match(repo)
    if parts is None:
        return False
    user, at, _ = parts["authority"].rpartition("@")
    if at and (parts["scheme"].lower() != "ssh" or ":" in user):
        return True
    return any(redact_text(text) != text for text in (user, parts["rest"]))


async def clone(repo: str, branch: str | None, path: Path, given: Mapping[str, str]) -> None:
    """Clone, bounded in time, without prompts, hooks or ext:: transports. `given` is the daemon's environment."""
    check_address(repo, branch)
    git = shutil.which("git")
    if git is None:
        raise HiveError(
            "SPAWN_FAILED", "git was not found.", hint="Install git, or clone yourself."
        )
    named = [f"--branch={branch}"] if branch else []
    env = {name: value for name, value in given.items() if name in _KEPT}
    env |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh:git:file",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    }
    child = await asyncio.create_subprocess_exec(
        git, "clone", "--quiet", *named, "--", repo, str(path),
        env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_S):
            _, err = await child.communicate()
    except BaseException as exc:
        if child.returncode is None:
            child.kill()
            await child.wait()
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        if isinstance(exc, TimeoutError):
            raise HiveError(
                "INVALID_PATH", f"git took longer than {LIMIT_S:.0f} s to clone it.",
                hint="Clone it yourself, then register the directory.", details={"reason": "clone_failed"},
            ) from None  # fmt: skip
        raise
    if child.returncode != 0:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        lines = err.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise HiveError(
            "INVALID_PATH", f"git could not clone {repo}: {lines[-1][:500]}",
            hint="Check the address, the branch and your access; the daemon has no terminal to ask for a password.",
            details={"reason": "clone_failed"},
        )  # fmt: skip

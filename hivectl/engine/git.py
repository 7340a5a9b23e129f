"""Runs git: argv without a shell, a clean environment, no hooks, no prompts, bounded in time and output.

A repository is not trusted because hivectl looks at it. Hooks, file-system monitors, editors, pagers,
signing and external diffs are off for every command here. What else its own configuration would run
(filters, merge drivers) is told by `programs`, so that a change of it can be refused; what such a program
leaves behind ends with git, where the system can promise that.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from hivectl.kit import aio
from hivectl.logic.environment import MARK
from hivectl.model.errors import HiveError

LOOK_LIMIT_S = 30.0
"""Longest a command may take that only looks."""
WORK_LIMIT_S = 600.0
"""Longest a command may take that writes files: a large checkout."""
OUTPUT_MAX = 8 * 1024 * 1024
"""Most output that is kept of a command; what is longer is cut, and said to be."""
ERROR_MAX = 64 * 1024
END_LIMIT_S = 5.0
TERM_LIMIT_S = 2.0
"""How long it may take to end when it is told to; then it is killed."""
CHILD_UMASK = 0o022
"""As of what Claude starts: the daemon's own would make files of the project private."""

_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "TMPDIR", "SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "SSL_CERT_FILE",
)  # fmt: skip
_FORCED = {
    "LC_ALL": "C.UTF-8",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
    "GIT_ALLOW_PROTOCOL": "https:ssh:git:file",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    # A filter that a run configured is started by us, not by a shim: it must not approve either (S16).
    MARK: "git",
}
_SWITCHES = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.editor=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "diff.external=",
    "merge.autoStash=false",
    "merge.verifySignatures=false",
    "log.showSignature=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "user.useConfigOnly=true",
    "advice.detachedHead=false",
)
_PROGRAMS = re.compile(
    r"(filter\..*\.(clean|smudge|process)|merge\..*\.driver|diff\..*\.(command|textconv)"
    r"|core\.(sshcommand|gitproxy|askpass|attributesfile|alternaterefscommand|worktree)|gpg\.(.*\.)?program"
    r"|hook\..*\.command|credential\..*|url\..*|remote\..*\.(uploadpack|vcs))"
)


_MAY_START_PROGRAMS = frozenset(
    {"add", "commit", "diff", "merge", "merge-tree", "status", "worktree"}
)
"""Commands that look at files or write them: filters, drivers and converters of the repository's own run then."""

Contain = Callable[[Sequence[str]], list[str]]


class Said(msgspec.Struct, frozen=True):
    """What a command answered."""

    code: int
    out: bytes
    err: str
    is_cut: bool = False

    @property
    def text(self) -> str:
        """Its output as text, without the last line's end."""
        return self.out.decode("utf-8", "replace").rstrip("\n")

    @property
    def names(self) -> list[str]:
        """Its NUL-separated output as text."""
        return [name.decode("utf-8", "replace") for name in self.out.split(b"\0") if name]


class Git:
    """The git of one environment."""

    def __init__(self, environment: Mapping[str, str], contain: Contain = list) -> None:
        """`environment` is the daemon's; only what git needs is passed on. `contain`: how a command is run that
        may start programs which the repository names, so that none of them outlives it (`ProcessHost.contain`)."""
        self._contain = contain
        self._env = {name: environment[name] for name in _KEPT if name in environment} | _FORCED

    async def ask(
        self,
        where: str | Path,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        limit_s: float = LOOK_LIMIT_S,
        most: int = OUTPUT_MAX,
    ) -> Said:
        """Run `git words...` in `where`; its exit code is the caller's to judge.

        Raises HiveError WORKTREE_UNAVAILABLE when git is missing, cannot be started, or takes too long."""
        program = shutil.which("git", path=self._env.get("PATH"))
        if program is None:
            raise HiveError(
                "WORKTREE_UNAVAILABLE", "git was not found.",
                hint="Install git, or run without --worktree.", details={"reason": "no_git"},
            )  # fmt: skip
        argv = [program, *(part for switch in _SWITCHES for part in ("-c", switch)), *words]
        if words[0] in _MAY_START_PROGRAMS:
            argv = self._contain(argv)
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                cwd=where,
                env={**self._env, **(env or {})},
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                umask=CHILD_UMASK,
                process_group=0,
            )
        except OSError as exc:
            raise HiveError(
                "WORKTREE_UNAVAILABLE", f"git cannot be started in {where}: {exc.strerror}.",
                details={"reason": "no_start", "path": str(where)},
            ) from exc  # fmt: skip
        try:
            async with asyncio.timeout(limit_s):
                return await _listen(child, stdin, most)
        except TimeoutError:
            raise HiveError(
                "WORKTREE_UNAVAILABLE", f"`git {words[0]}` took longer than {limit_s:g} s in {where}.",
                hint="Look whether the disk or a filter of the repository hangs, then try again.",
                details={"reason": "timeout", "limit_s": limit_s},
            ) from None  # fmt: skip
        finally:
            await aio.finish(_end(child), within_s=END_LIMIT_S)

    async def must(
        self, where: str | Path, *words: str, env: Mapping[str, str] | None = None,
        stdin: bytes = b"", limit_s: float = LOOK_LIMIT_S,
    ) -> Said:  # fmt: skip
        """As `ask`, but a command that fails raises HiveError WORKTREE_UNAVAILABLE with git's own words."""
        said = await self.ask(where, *words, env=env, stdin=stdin, limit_s=limit_s)
        if said.code != 0:
            raise HiveError(
                "WORKTREE_UNAVAILABLE", f"`git {words[0]}` failed in {where}: {last_line(said.err)}",
                hint=f"Look what git says there: `git -C {where} status`.",
                details={"reason": "git_failed", "command": words[0], "stderr": said.err[-2000:]},
            )  # fmt: skip
        return said

    async def commit_of(self, where: str | Path, revision: str) -> str | None:
        """The full id of a commit; None when there is none of that name."""
        said = await self.ask(where, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        return said.text or None

    async def is_ancestor(self, where: str | Path, older: str, newer: str) -> bool:
        """Whether `newer` has `older` in its history."""
        return (await self.ask(where, "merge-base", "--is-ancestor", older, newer)).code == 0

    async def changes(self, where: str | Path) -> list[tuple[str, str]]:
        """(status, path) of everything uncommitted, untracked files one by one; a nested repository ends with /."""
        said = await self.must(where, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")  # fmt: skip
        return [(entry[:2], entry[3:]) for entry in said.names]

    async def programs(self, where: str | Path) -> tuple[str, list[str]]:
        """What the repository's own configuration would make git run: a digest, and the keys."""
        said = await self.must(where, "config", "--list", "--null", "--show-scope", "--includes")
        fields = said.out.split(b"\0")
        found = sorted(
            value
            for scope, value in zip(fields[::2], fields[1::2], strict=False)
            if scope in (b"local", b"worktree") and _PROGRAMS.fullmatch(_key(value))
        )
        digest = hashlib.sha256(b"\0".join(found)).hexdigest() if found else ""
        return digest, [_key(value) for value in found]


def _key(entry: bytes) -> str:
    return entry.partition(b"\n")[0].decode("utf-8", "replace")


def last_line(text: str) -> str:
    """What git said last, or first of all where it named an error."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (told or lines or ["no reason given"])[0 if told else -1][:500]


async def _listen(child: asyncio.subprocess.Process, stdin: bytes, most: int) -> Said:
    assert child.stdout is not None
    assert child.stderr is not None
    async with asyncio.TaskGroup() as group:
        _ = group.create_task(_give(child.stdin, stdin))
        out = group.create_task(_take(child.stdout, most))
        err = group.create_task(_take(child.stderr, ERROR_MAX))
    kept, is_cut = out.result()
    code = await child.wait()
    return Said(code, kept, err.result()[0].decode("utf-8", "replace"), is_cut)


async def _give(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # its exit code tells why it did not read
        stream.write(data)
        await stream.drain()
    stream.close()


async def _take(stream: asyncio.StreamReader, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes; the rest is read and dropped, so that git comes to its end."""
    kept = bytearray()
    is_cut = False
    while piece := await stream.read(64 * 1024):
        room = most - len(kept)
        kept += piece[:room]
        is_cut = is_cut or len(piece) > room
    return bytes(kept), is_cut


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError, TimeoutError):
        child.terminate()  # who contains it ends what has left its group
        async with asyncio.timeout(TERM_LIMIT_S):
            await child.wait()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.wait()

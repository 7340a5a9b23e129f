"""While an execution runs, what changes in its directory is told: one event a second at most.

Only told: a fault here, a limit of the system or a full disk never touches the run. Where nothing runs
nothing is listened to, and nothing wakes the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hivectl.engine.git import Git
from hivectl.engine.live import Live, World
from hivectl.model.errors import HiveError
from hivectl.store import projects
from hivectl.store.database import Tx

_log = logging.getLogger(__name__)

BATCH_S = 1.0
"""Changes are gathered for so long."""
LAST_S = 2.0
"""How long the end of a run may wait for its last changes to be told."""
GIT_LIMIT_S = 5.0
"""Longest git may take to say what is ignored."""
MOST_JUDGED = 2000
"""Changed paths looked at in one batch; what is more is counted only."""
MOST_KNOWN = 10_000
"""Paths remembered as told of, to tell a file written anew from a new one."""
ROUNDS = 3
"""How often directories are looked for again that were made while we began to listen."""
DEPTH = 64
"""Directories deeper than this are not listened to."""
_NO_REPOSITORY = 128
_HINT = "Raise fs.inotify.max_user_watches and max_user_instances, or switch it off: `hivectl config set watch.files false`."


class Watching:
    """Begins to watch for each run, and says each trouble once."""

    def __init__(self, world: World) -> None:
        """Nothing is watched before `begin`."""
        self._world = world
        self._told: set[str] = set()

    def begin(self, live: Live, directory: Path) -> Watch | None:
        """Watch `directory` for a run that is about to start or was adopted; None when that cannot be."""
        try:
            return Watch(live, directory, self._tell)
        except Exception:  # noqa: BLE001  contained: the run goes on unwatched
            _log.exception("files are not watched", extra={"execution": live.id})
            return None

    async def _tell(self, what: str, message: str) -> None:
        if what in self._told:
            return
        self._told.add(what)
        _log.warning("files are not watched", extra={"what": what, "reason": message})
        notice = {"code": "RESOURCE_LIMIT", "message": message, "hint": _HINT}
        await self._world.db.write(
            lambda tx: tx.emit("system", "system.notice", notice, actor="system")
        )


class Watch:
    """One run's directory. `end` tells what is left; `stop` ends it at once."""

    def __init__(self, live: Live, directory: Path, tell: Callable[[str, str], Any]) -> None:
        """Made by `Watching.begin`."""
        self._live = live
        self._tell = tell
        settings = live.world.settings()
        self._git: Git | None = Git(settings.environment)
        self._most_paths = settings.number("watch.max_paths")
        # The first run that is watched pays for the library, not every start of the daemon.
        from hivectl.engine.watched import Watched  # noqa: PLC0415

        self._watched = Watched(directory, most=settings.number("watch.max_directories"))
        self._known: set[str] = set()
        self._over = asyncio.Event()
        self._is_listening = False
        self._task = live.world.nursery.start(self._run(), name=f"files of {live.id}")

    async def end(self) -> None:
        """Tell what changed last, within a limit, and stop."""
        self._over.set()
        if self._is_listening and not self._task.done():
            await asyncio.wait([self._task], timeout=LAST_S)
        self.stop()

    def stop(self) -> None:
        """Stop now. Idempotent."""
        self._task.cancel()
        self._watched.close()

    async def _run(self) -> None:
        try:
            if await self._is_wanted():
                await self._watch()
        except Exception as exc:  # noqa: BLE001
            # Nobody's run depends on it: it is said, and the run goes on unwatched.
            await self._give_up(exc)
        finally:
            self._watched.close()

    async def _give_up(self, exc: Exception) -> None:
        message = f"Changed files of {self._watched.root} are not shown: {exc}"
        try:
            await self._tell("limit", message)
        except HiveError:
            _log.warning("a notice is not stored", extra={"notice": message})

    async def _is_wanted(self) -> bool:
        def look(tx: Tx) -> Any:
            return projects.find(tx, self._live.execution.project).defaults.get("watch_files")

        wanted = await self._live.world.db.write(look)
        return self._live.world.settings().flag("watch.files") if wanted is None else bool(wanted)

    async def _watch(self) -> None:
        await self._listen_to([""], is_first=True)
        self._is_listening = True
        if self._watched.is_cut:
            most = len(self._watched.directories)
            message = f"{self._watched.root} has more than {most} directories; changes in the others are not shown."
            await self._tell(self._live.execution.project, message)
        while not self._over.is_set():
            try:
                async with asyncio.timeout(BATCH_S):
                    await self._over.wait()
            except TimeoutError:
                pass
            await self._look()

    # --- which directories --------------------------------------------------------------------------

    async def _listen_to(self, starts: Sequence[str], *, is_first: bool = False) -> list[str]:
        """Listen to directories and all below them. Returns the files that are in them already."""
        files: list[str] = []
        for _ in range(ROUNDS):
            found = await self._discover(starts)
            if not found:
                break
            await asyncio.to_thread(self._watched.listen, found)
            # Made before we listened: nobody told us.
            below, files_in = await asyncio.to_thread(self._watched.scan, found)
            if not is_first:
                files += files_in
            starts = [path for path in below if path not in self._watched.directories]
            if not starts:
                break
            starts = await self._wanted(starts)
        return files

    async def _discover(self, starts: Sequence[str]) -> list[str]:
        found: list[str] = []
        level: Sequence[str] = starts
        for _ in range(DEPTH):
            taken = self._watched.take(level)
            found += taken
            below, _files = await asyncio.to_thread(self._watched.scan, taken)
            level = await self._wanted(below)
            if not level:
                break
        return found

    # --- what changed -------------------------------------------------------------------------------

    async def _look(self) -> None:
        told = await asyncio.to_thread(self._watched.hear)
        if not told:
            return
        kinds, new = await asyncio.to_thread(self._watched.settle, told)
        if new:
            files = await self._listen_to(await self._wanted(new))
            kinds |= dict.fromkeys(files, "added")
        if kinds:
            await self._tell_of(kinds)

    async def _tell_of(self, kinds: dict[str, str]) -> None:
        paths = sorted(kinds)
        judged = await self._wanted(paths[:MOST_JUDGED])
        shown = judged[: self._most_paths]
        more = len(judged) - len(shown) + max(len(paths) - MOST_JUDGED, 0)
        if not shown:
            return
        old = await self._tracked([path for path in shown if kinds[path] == "added"])
        changes = []
        for path in shown:
            kind = kinds[path]
            if kind == "added" and (path in old or path in self._known):
                kind = "modified"  # written beside it and renamed, as careful programs do
            self._remember(path, is_there=kind != "deleted")
            changes.append({"path": _clean(path), "kind": kind})
        data = {"changes": changes, "more": more}
        execution = self._live.execution
        emit = partial(_emit, execution.stream, data, execution.id, execution.session)
        await self._live.commit(emit)

    def _remember(self, path: str, *, is_there: bool) -> None:
        if not is_there:
            self._known.discard(path)
        elif len(self._known) < MOST_KNOWN:
            self._known.add(path)

    # --- what git says ------------------------------------------------------------------------------

    async def _wanted(self, paths: Sequence[str]) -> list[str]:
        """Those of `paths` that git does not ignore; all where there is no repository, or git does not answer."""
        if not paths or self._git is None:
            return list(paths)
        names = b"\0".join(os.fsencode(path) for path in paths) + b"\0"
        words = ("check-ignore", "-z", "--stdin")
        ignored = await self._ask(words, stdin=names)
        return [path for path in paths if path not in ignored]

    async def _tracked(self, paths: Sequence[str]) -> frozenset[str]:
        if not paths:
            return frozenset()
        return await self._ask(("--literal-pathspecs", "ls-files", "-z", "--", *paths))

    async def _ask(self, words: Iterable[str], stdin: bytes = b"") -> frozenset[str]:
        if self._git is None:
            return frozenset()
        try:
            said = await self._git.ask(self._watched.root, *words, stdin=stdin, limit_s=GIT_LIMIT_S)
        except HiveError as exc:
            _log.info("git does not answer", extra={"reason": exc.message})
            self._git = None
            return frozenset()
        if said.code == _NO_REPOSITORY and "not a git repository" in said.err:
            self._git = None
        return frozenset(os.fsdecode(name) for name in said.out.split(b"\0") if name)


def _emit(stream: str, data: dict[str, Any], execution: str, session: str | None, tx: Tx) -> None:
    tx.emit(stream, "file.changed", data, execution=execution, session=session)


def _clean(path: str) -> str:
    """As it can be written in JSON: names need not be UTF-8."""
    return path.encode("utf-8", "replace").decode()

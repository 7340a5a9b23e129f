"""Drives one execution: start or adopt its process, record what it says, answer it, judge its end.

Exactly-once comes from three facts: the log carries the spool offset of each message, the execution row
carries the offset up to which effects were stored, and stdin frames have ids that the shim remembers. So
after any crash the runner simply reads on from the log's offset and writes everything again that may not
have arrived.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hivectl.config import Settings
from hivectl.engine import directory
from hivectl.engine.bus import Bus
from hivectl.engine.effects import Applied, apply_effects
from hivectl.engine.publisher import Companion, Publisher
from hivectl.journal import blobs
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import Journal, StreamLog
from hivectl.kit import failpoint
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.kit.ids import make_uuid
from hivectl.logic import outcome as outcomes
from hivectl.logic.environment import environment
from hivectl.model.approval import Approval
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.work import Cause, Execution, ExecutionState, Options, Order, Outcome, Usage
from hivectl.ports import (
    Agent,
    Answer,
    Conversation,
    ErrorSeen,
    Exit,
    Handle,
    LimitSeen,
    MessageSeen,
    Partial,
    PermissionAsked,
    ProcessHost,
    ReplyNeeded,
    ResultSeen,
    RunSpec,
    Seen,
    StopMode,
    StopReason,
)
from hivectl.store import people, projects, work
from hivectl.store.database import Database, Tx

_log = logging.getLogger(__name__)
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
READ_BYTES = 256 * 1024
IDLE_S = 3600.0
"""Longest time between two looks at a process that reports nothing; changes are announced at once."""
STDERR_LINE_MAX = 16 * 1024
STDERR_TAIL = 8 * 1024
STORAGE_RETRY_S = 0.5
ADOPT_RETRY_S = 5.0
UNREACHABLE = frozenset({"UNAVAILABLE", "PROTOCOL_MISMATCH"})
RETRYABLE = frozenset({"STORAGE_FULL", "STORAGE_ERROR", "RESOURCE_LIMIT"})
"""A full disk, a database that somebody else has locked: a run's facts wait, they are not dropped."""
PASSING = directory.EXHAUSTED | {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN}
"""What the machine may refuse for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all runners share."""

    settings: Callable[[], Settings]
    clock: Clock
    db: Database
    journal: Journal
    publisher: Publisher
    bus: Bus
    host: ProcessHost
    agent: Agent
    nursery: Nursery
    deny_read: tuple[str, ...]


class Runner:
    """One live execution."""

    def __init__(self, world: World, execution: Execution, *, is_adopting: bool) -> None:
        """`is_adopting` after a restart: its process may live, have ended, or never have started."""
        assert execution.process is not None
        self._w = world
        self.id = execution.id
        self.process = execution.process
        self._execution = execution
        self._is_adopting = is_adopting
        self._handle: Handle | None = None
        self._conversation: Conversation | None = None
        self._stream: StreamLog | None = None
        self._out = 0
        self._err = 0
        self._err_rest = b""
        self._stderr_tail = b""
        self._stop = _stop_of(execution)
        self._outgoing: deque[tuple[str, bytes, str | None] | None] = deque()
        self._writer: asyncio.Task[Any] | None = None
        self._is_clock_lifted = False
        self._is_closing = False
        self._keeps_descendants = False
        self._saw_output = False
        self.done = asyncio.Event()

    # --- what others ask of it ----------------------------------------------------------------------

    @property
    def is_stalled(self) -> bool:
        """Its output waits for room on the disk; told from the process, since a full disk stores nothing."""
        return self._handle is not None and self._handle.is_stalled

    async def stop(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder; its end is `done`."""
        self._stop = (mode, reason)
        if self._handle is not None:
            await self._handle.stop(mode, reason)

    async def deliver(self, approval: Approval) -> None:
        """Let Claude hear a decision that is stored already."""
        failpoint.hit("decision_after_commit")
        if self._conversation is None:
            return  # still being adopted: it will write every answer that may not have arrived
        self._send_answer(approval)
        try:
            await self._tend_clock(await self._find())
        except HiveError as exc:
            # The decision stands: whoever made it must not be told that it failed.
            _log.error(
                "the clock of a run is not set", extra={"execution": self.id, "code": exc.code}
            )

    # --- its life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """From start (or adoption) to the stored end. Contains every failure of this one execution."""
        try:
            await self._live()
        except HiveError as exc:
            await self._surely_fail(outcomes.from_error(exc), exc)
        except Exception as exc:  # noqa: BLE001
            # One run must not sink the others; the fault is logged and the execution says so.
            _log.exception("runner failed", extra={"execution": self.id})
            failed = Outcome(
                state=ExecutionState.FAILED,
                cause=Cause.INTERNAL,
                message=f"hivectl failed: {type(exc).__name__}; see the daemon's log.",
            )
            await self._surely_fail(failed, None)
        finally:
            self.done.set()

    async def _surely_fail(self, outcome: Outcome, error: HiveError | None) -> None:
        """Store the end, however often that fails: without it the lane would stay taken and nobody be told."""
        while True:
            try:
                return await self._fail(outcome, error)
            except Exception:  # noqa: BLE001
                # Contained like the run itself; said each time, so that an operator sees it.
                _log.exception("the end of a run cannot be stored", extra={"execution": self.id})
                await asyncio.sleep(ADOPT_RETRY_S)

    @property
    def _log(self) -> StreamLog:
        assert self._stream is not None
        return self._stream

    async def _live(self) -> None:
        self._stream = log = await self._patiently(
            lambda: self._w.journal.open(self._execution.stream)
        )
        self._out = log.source_end(self.process, "o")
        self._err = log.source_end(self.process, "e")
        self._saw_output = self._out > 0
        await self._forget_ended_sources(log)
        if self._is_adopting:
            self._handle = await self._adopt()
            if self._handle is None and self._execution.state is not ExecutionState.STARTING:
                await self._finish(Exit(reason=StopReason.EXITED, shim_lost=True))
                return
        spec = await self._prepare()
        if self._handle is None:
            if self._is_adopting and await self._check(await self._project()) != spec.trusted:
                # It was prepared before a restart, however long ago: what was true then may not be now.
                raise HiveError(
                    "TRUST_CHANGED", "The project's trust changed before the execution started."
                )
            self._handle = await self._start(spec, keep=self._keeps_descendants)
            self._is_adopting = False
        self._execution = await self._commit(lambda tx: work.started(tx, self.id, pid=self.pid))
        self._conversation = self._w.agent.conversation(spec, offset=self._out)
        await self._open()
        ended = await self._follow()
        failpoint.hit("exit_seen")
        await self._finish(ended)

    async def _forget_ended_sources(self, log: StreamLog) -> None:
        """After a restart the log carries offsets of processes that ended since its last snapshot."""
        if log.source_processes() <= {self.process}:
            return
        live = await self._commit(lambda tx: work.of_project(tx, self._execution.project))
        for ended in log.source_processes() - {execution.process for execution in live}:
            log.forget_source(ended)

    async def _adopt(self) -> Handle | None:
        """Find the process again, however long its shim does not answer: it may be frozen, or of another
        version, and a run that lives must not be given up."""
        while True:
            try:
                return await self._w.host.adopt(self.process)
            except HiveError as exc:
                if exc.code not in UNREACHABLE:
                    raise
                _log.warning(
                    "shim does not answer", extra={"execution": self.id, "error": exc.message}
                )
                await self._note(stalled="shim_unreachable")
                await asyncio.sleep(ADOPT_RETRY_S)

    @property
    def pid(self) -> int | None:
        """The child's pid, once it has one."""
        return self._handle.pid if self._handle is not None else None

    async def _prepare(self) -> RunSpec:
        """Choose the conversation and store the choice; a later start of the same execution repeats it."""
        order, project = await self._commit(
            lambda tx: (
                work.find_order(tx, self._execution.order_id),
                projects.find(tx, self._execution.project),
            )
        )
        if self._handle is not None and self._execution.session is None:
            # It lives, and only a database that was rebuilt does not know its session: Claude will tell.
            self._execution = replace(self._execution, session=make_uuid())
        if self._execution.session is None:
            trusted = await self._check(project)
            session, resume, fork_from = _choose_session(order, project)
            self._execution = await self._commit(
                lambda tx: work.prepare(
                    tx,
                    self.id,
                    session=session,
                    resume=resume,
                    fork_from=fork_from,
                    trusted=trusted,
                )
            )
        self._keeps_descendants = bool(project.defaults.get("keep_descendants"))
        return self._spec(order, project)

    async def _project(self) -> Project:
        return await self._commit(lambda tx: projects.find(tx, self._execution.project))

    async def _check(self, project: Project) -> bool:
        try:
            await asyncio.to_thread(directory.check_identity, project)
        except HiveError as exc:
            message = exc.message
            await self._commit(lambda tx: projects.set_error(tx, project.id, message))
            raise
        if project.error:
            await self._commit(lambda tx: projects.set_error(tx, project.id, None))
        while True:
            try:
                return await asyncio.to_thread(directory.is_trusted, project)
            except HiveError as exc:
                if exc.code == "RESOURCE_LIMIT":
                    await asyncio.sleep(STORAGE_RETRY_S)
                    continue
                await self._break_trust(project)
                raise

    async def _break_trust(self, project: Project) -> None:
        if not project.trust_broken:
            await self._commit(
                lambda tx: projects.set_trust(
                    tx, project.id, project.trust_hash, broken=True, actor="system", request=""
                )
            )

    def _spec(self, order: Order, project: Project) -> RunSpec:
        settings, execution = self._w.settings(), self._execution
        assert execution.session is not None
        slash = project.defaults.get("slash_commands")
        return RunSpec(
            execution=self.id,
            prompt=order.prompt,
            prompt_uuid=order.prompt_uuid,
            cwd=Path(project.path),
            session=execution.session,
            resume=execution.resume,
            fork_from=execution.fork_from,
            options=options_of(order.options),
            trusted=execution.trusted,
            slash_commands=settings.flag("claude.slash_commands") if slash is None else bool(slash),
            deny_read=self._w.deny_read,
            env=environment(settings.environment, settings["claude.env"], project.env, self.id),
        )

    async def _start(self, spec: RunSpec, *, keep: bool) -> Handle:
        info = await self._w.agent.probe()
        settings = self._w.settings()
        launch = self._w.agent.launch(spec, info)
        no_output = spec.options.no_output_timeout_s or settings.seconds_or_none(
            "execution.no_output_timeout_s"
        )
        launch = replace(
            launch,
            deadline_s=spec.options.timeout_s or settings.seconds("execution.timeout_s"),
            no_output_s=no_output,
            hang_s=settings.seconds("execution.hang_after_result_s"),
            linger_s=settings.seconds("execution.linger_s"),
            keep_descendants=keep,
            max_output_bytes=settings.number("execution.max_output_bytes"),
        )
        while True:
            if self._stop is not None:
                raise HiveError("SPAWN_FAILED", "It was stopped before it started.")
            try:
                return await self._w.host.start(self.process, launch)
            except HiveError as exc:
                if exc.code != "STORAGE_FULL":
                    raise
                await self._note(stalled="storage_full")
                await asyncio.sleep(STORAGE_RETRY_S)

    async def _open(self) -> None:
        """Write what Claude must have heard by now: again, where it may have heard it already."""
        assert self._handle is not None
        assert self._conversation is not None
        execution = self._execution
        if self._handle.exit is not None:
            return
        if self._stop is not None:
            await self._insist(partial(self._handle.stop, *self._stop))
            if not self._is_adopting:
                # Stopped while it started: it has heard nothing yet, and is to hear nothing.
                self._send_close()
                return
        if execution.verdict is not None:
            self._send_close()
            return
        self._outgoing.extend((frame, data, None) for frame, data in self._conversation.opening())
        for approval in await self._commit(lambda tx: people.undelivered(tx, self.id)):
            self._send_answer(approval)
        if self._is_adopting:
            # Read anew: somebody may have answered since. The flag and the state agree from here on.
            self._execution = execution = await self._find()
            self._is_clock_lifted = execution.state is not ExecutionState.WAITING
            await self._tend_clock(execution)
        self._kick_writer()

    # --- output -------------------------------------------------------------------------------------

    async def _follow(self) -> Exit:
        handle, conversation = self._handle, self._conversation
        assert handle is not None
        assert conversation is not None
        fed = self._out
        was_stalled = self._execution.stalled is not None
        while True:
            ended = handle.exit
            out = await self._patiently(partial(handle.read, "out", fed, READ_BYTES))
            if out:
                await self._take(conversation.feed(out, fed))
                fed += len(out)
            at = self._err + len(self._err_rest)
            err = await self._patiently(partial(handle.read, "err", at, READ_BYTES))
            if err:
                await self._take_stderr(err)
            if handle.is_stalled != was_stalled:
                was_stalled = handle.is_stalled
                await self._note(stalled="storage_full" if was_stalled else None)
            if out or err:
                await asyncio.sleep(0)  # a flood from one run leaves the others their turn
            elif ended is not None:
                await self._take(conversation.flush())
                await self._take_stderr(b"", is_end=True)
                return ended
            else:
                await handle.wait_change(IDLE_S)

    async def _take(self, seen: list[Seen]) -> None:
        if not seen:
            return
        drafts: list[Draft] = []
        effects: list[tuple[int, Seen]] = []
        end = self._out
        spill_bytes = self._w.settings().number("log.spill_bytes")
        for item in seen:
            match item:
                case MessageSeen():
                    if len(item.raw) > spill_bytes:
                        drafts.append(await self._patiently(partial(self._spill, item)))
                    else:
                        drafts.append(self._draft(item))
                    end = item.end
                    self._saw_output = True
                    if item.kind == "assistant" and self._execution.retrying is not None:
                        effects.append((end, item))
                case Partial():
                    raw = msgspec.Raw(item.raw)
                    self._w.bus.ephemeral(
                        self._log.stream,
                        "partial",
                        {"after_seq": self._log.last_seq, "raw": raw},
                        execution=self.id,
                    )
                case ReplyNeeded():
                    self._outgoing.append((item.frame, item.data, None))
                case _:
                    effects.append((end, item))
        if effects:
            await self._apply(effects, drafts)
        else:
            self._w.publisher.append(self._log.stream, drafts)
        self._out = end
        self._kick_writer()
        await self._w.publisher.wait_clear(self._log.stream)

    async def _apply(self, effects: list[tuple[int, Seen]], drafts: list[Draft]) -> None:
        if (
            any(isinstance(item, PermissionAsked) for _, item in effects)
            and not self._is_clock_lifted
        ):
            # Before anybody is asked: a daemon that dies while a person thinks must not cost the run.
            await self._set_clock(None)
        default = self._w.settings().text("approval.default")
        applied = await self._commit(
            lambda tx: apply_effects(tx, self.id, effects, default=default),
            Companion(self._log.stream, drafts),
        )
        await self._after(applied)

    async def _after(self, applied: Applied) -> None:
        self._execution = applied.execution
        for approval in applied.decided:
            self._send_answer(approval)
        await self._tend_clock(applied.execution)
        if applied.is_over:
            self._send_close()

    def _draft(self, item: MessageSeen) -> Draft:
        if item.is_json:
            return self._draft_of(item, {"raw": msgspec.Raw(item.raw)})
        return self._draft_of(item, {"raw_b64": base64.b64encode(item.raw).decode()})

    def _spill(self, item: MessageSeen) -> Draft:
        """Writes a file of its own: the disk may refuse."""
        ref = blobs.write_blob(self._log, item.raw)
        return self._draft_of(item, {**ref, "is_json": item.is_json})

    def _draft_of(self, item: MessageSeen, content: dict[str, Any]) -> Draft:
        head: dict[str, Any] = {"kind": item.kind, "direction": "out"}
        if item.subtype:
            head["subtype"] = item.subtype
        if item.text:
            head["text"] = item.text
        return Draft(
            "message",
            _encode(head | content),
            self._w.clock.now_us(),
            self.id,
            self._execution.session,
            src=Source(self.process, "o", item.end),
        )

    async def _take_stderr(self, data: bytes, *, is_end: bool = False) -> None:
        rest = self._err_rest + data
        drafts: list[Draft] = []
        while rest:
            cut = rest.find(b"\n", 0, STDERR_LINE_MAX)
            if cut < 0 and len(rest) < STDERR_LINE_MAX and not is_end:
                break
            size = cut + 1 if cut >= 0 else min(len(rest), STDERR_LINE_MAX)
            line, rest = rest[:size], rest[size:]
            self._err += size
            self._stderr_tail = (self._stderr_tail + line)[-STDERR_TAIL:]
            body = msgspec.json.encode({"text": line.rstrip(b"\r\n").decode("utf-8", "replace")})
            source = Source(self.process, "e", self._err)
            drafts.append(
                Draft(
                    "stderr",
                    body,
                    self._w.clock.now_us(),
                    self.id,
                    self._execution.session,
                    src=source,
                )
            )
        self._err_rest = rest
        self._w.publisher.append(self._log.stream, drafts)
        await self._w.publisher.wait_clear(self._log.stream)

    # --- input --------------------------------------------------------------------------------------

    def _send_answer(self, approval: Approval) -> None:
        assert self._conversation is not None
        said = approval.answer or {"allow": False, "message": "No answer."}
        frame, data = self._conversation.answer(approval.request, Answer(**said))
        self._outgoing.append((frame, data, approval.id))
        self._kick_writer()

    def _send_close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._outgoing.append(None)
            self._kick_writer()

    def _kick_writer(self) -> None:
        """Frames go out one after the other, beside the reading: Claude may not read while we do not."""
        if (
            self._outgoing
            and (self._writer is None or self._writer.done())
            and self._handle is not None
        ):
            self._writer = self._w.nursery.start(self._write_frames(), name=f"stdin of {self.id}")

    async def _write_frames(self) -> None:
        handle = self._handle
        assert handle is not None
        while self._outgoing:
            item = self._outgoing.popleft()
            if item is None:
                await self._insist(partial(handle.close_stdin, hang=True))
                continue
            frame, data, approval = item
            was_written = await handle.write(frame, data)
            if was_written and approval is not None:
                await self._commit(partial(people.delivered, id_=approval))

    async def _tend_clock(self, execution: Execution) -> None:
        """Let the wall clock stand or run, as the state says: two decide (the reading, and each answer)."""
        is_waiting = execution.state is ExecutionState.WAITING
        if is_waiting is not self._is_clock_lifted:
            await self._set_clock(None if is_waiting else self._time_left(execution))

    async def _set_clock(self, seconds: float | None) -> None:
        assert self._handle is not None
        self._is_clock_lifted = seconds is None
        await self._insist(partial(self._handle.set_deadline, seconds))

    def _time_left(self, execution: Execution) -> float:
        limit = execution.options.get("timeout_s") or self._w.settings().seconds(
            "execution.timeout_s"
        )
        used = (
            self._w.clock.now_us()
            - (execution.started_us or execution.created_us)
            - execution.waited_us
        )
        return max(0.1, float(limit) - used / 1_000_000)

    # --- the end ------------------------------------------------------------------------------------

    async def _finish(self, ended: Exit) -> None:
        execution = await self._find()
        await self._sync()
        outcome = judge(execution, ended, self._tail(), saw_output=self._saw_output)
        await self._end(outcome, swept=ended.swept)

    async def _sync(self) -> None:
        """A run is not told to have ended before what it said is durable."""
        while True:
            try:
                await self._log.sync()
            except OSError as exc:
                if exc.errno not in PASSING:
                    raise
                await asyncio.sleep(STORAGE_RETRY_S)
            else:
                return

    def _tail(self) -> str:
        if not self._stderr_tail and self._handle is not None and self._err:
            start = max(0, self._err - STDERR_TAIL)
            self._stderr_tail = self._handle.read("err", start, self._err - start)
        return self._stderr_tail.decode("utf-8", "replace")

    async def _fail(self, outcome: Outcome, error: HiveError | None) -> None:
        execution = await self._find()
        if self._handle is not None and self._handle.exit is None:
            try:
                await self._handle.stop(StopMode.KILL, StopReason.USER)
                await self._handle.wait_exit()
            except (HiveError, OSError):
                # Its end is told all the same; the next start clears the process that is left.
                _log.exception("cannot end a process", extra={"execution": self.id})
        if error is not None and self._stop is not None and self._handle is None:
            outcome = replace(
                outcome,
                state=ExecutionState.CANCELLED,
                cause=Cause.KILLED,
                message=execution.stop_note or "Stopped before it started.",
            )
        await self._end(outcome, swept=0)

    async def _end(self, outcome: Outcome, *, swept: int) -> None:
        await self._commit(lambda tx: work.end(tx, self.id, outcome, swept=swept))
        try:
            if self._stream is not None:
                self._stream.forget_source(self.process)
            if self._handle is not None:
                await self._handle.aclose()
            self._w.host.remove(self.process)
        except (HiveError, OSError):
            # The end is stored; what is left of the process is cleared at the next start.
            _log.warning("cannot clear a process", extra={"execution": self.id}, exc_info=True)

    # --- the store ----------------------------------------------------------------------------------

    async def _patiently(self, act: Callable[[], T]) -> T:
        """Do what the machine may refuse for a while for want of room, descriptors or memory."""
        is_told = False
        while True:
            try:
                return act()
            except OSError as exc:
                if exc.errno not in PASSING:
                    raise
                if not is_told:
                    _log.error(
                        "waiting for the machine", extra={"execution": self.id, "error": str(exc)}
                    )
                    is_told = True
                await asyncio.sleep(STORAGE_RETRY_S)

    async def _insist(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask the shim for what must happen, however long it does not answer: it may be frozen with its run."""
        while True:
            try:
                return await ask()
            except HiveError as exc:
                if exc.code not in UNREACHABLE:
                    raise
                _log.warning(
                    "shim does not answer", extra={"execution": self.id, "error": exc.message}
                )
                await asyncio.sleep(ADOPT_RETRY_S)

    async def _find(self) -> Execution:
        return await self._commit(lambda tx: work.find(tx, self.id))

    async def _commit(self, change: Callable[[Tx], T], companion: Companion | None = None) -> T:
        """Write, and wait while the disk is full: a run's facts must not be dropped."""
        while True:
            try:
                return await self._w.db.write(change, companion)
            except HiveError as exc:
                if exc.code not in RETRYABLE:
                    raise
                await asyncio.sleep(STORAGE_RETRY_S)

    async def _note(self, **changes: Any) -> None:
        await self._commit(lambda tx: work.note(tx, self.id, **changes))


def options_of(stored: dict[str, Any]) -> Options:
    """Options from their stored form."""
    lists = ("allowed_tools", "disallowed_tools", "add_dirs")
    values: dict[str, Any] = {
        name: tuple(value) if name in lists else value
        for name, value in stored.items()
        if value is not None
    }
    return Options(**values)


def _stop_of(execution: Execution) -> tuple[StopMode, StopReason] | None:
    """How somebody wanted to stop it before the daemon ended."""
    if execution.stop_mode is None:
        return None
    return StopMode(execution.stop_mode), StopReason(execution.stop_reason or StopReason.USER)


def _choose_session(order: Order, project: Project) -> tuple[str, bool, str | None]:
    """(session id, resume it?, forked from)."""
    wanted = (
        project.session
        if order.session == "current"
        else None
        if order.session == "new"
        else order.session
    )
    if wanted is None:
        return make_uuid(), False, None
    if order.fork:
        return make_uuid(), False, wanted
    return wanted, True, None


def judge(execution: Execution, ended: Exit, stderr_tail: str, *, saw_output: bool) -> Outcome:
    """The end of an execution from what is stored of it and how its process ended."""
    verdict = execution.verdict
    result = None
    if verdict is not None:
        result = ResultSeen(
            **{**verdict, "usage": Usage(**verdict["usage"]), "errors": tuple(verdict["errors"])}
        )
    errors = [ErrorSeen(**found) for found in execution.evidence.get("errors", [])]
    limits = [LimitSeen(**found) for found in execution.evidence.get("limits", [])]
    outcome = outcomes.judge(
        ended=ended,
        result=result,
        errors=errors,
        limit=limits[-1] if limits else None,
        stopped=execution.stop_reason,
        stderr_tail=stderr_tail,
        saw_output=saw_output,
        usage=Usage(**execution.usage) if execution.usage else None,
    )
    if execution.stop_note and outcome.state is ExecutionState.CANCELLED:
        outcome = replace(outcome, message=f"{outcome.message} ({execution.stop_note})")
    return outcome

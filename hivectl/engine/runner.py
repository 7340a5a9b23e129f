"""Drives one execution: start or adopt its process, record what it says, answer it, judge its end.

Exactly-once comes from three facts: the log carries the spool offset of each message, the execution row
carries the offset up to which effects were stored, and stdin frames have ids that the shim remembers. So
after any crash the runner simply reads on from the log's offset and writes everything again that may not
have arrived.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from msgspec.structs import replace

from hivectl.engine import capacity, starting
from hivectl.engine import live as patience
from hivectl.engine.deadline import Deadline
from hivectl.engine.live import PASSING, RETRYABLE, STORAGE_RETRY_S, Live, World, let_go
from hivectl.engine.reading import Reader
from hivectl.engine.starting import options_of
from hivectl.engine.verdict import judge
from hivectl.engine.warm import OUTPUT_SHARE, Parked, Parking, is_sound
from hivectl.engine.watching import Watch, Watching
from hivectl.engine.writing import Writer
from hivectl.journal.writer import StreamLog
from hivectl.kit import failpoint
from hivectl.kit.ids import make_id, make_uuid
from hivectl.logic import outcome as outcomes
from hivectl.model.approval import Approval
from hivectl.model.errors import HiveError
from hivectl.model.question import Question
from hivectl.model.work import Cause, Execution, ExecutionState, Outcome
from hivectl.ports import Exit, RunSpec, StopMode, StopReason
from hivectl.store import pending, work
from hivectl.store.database import Tx

__all__ = ["RETRYABLE", "Runner", "World", "options_of"]

_log = logging.getLogger(__name__)


class Runner:
    """One live execution."""

    def __init__(
        self,
        world: World,
        execution: Execution,
        *,
        is_adopting: bool,
        parking: Parking | None = None,
        watching: Watching | None = None,
    ) -> None:
        """`is_adopting` after a restart: its process may live, have ended, or never have started.
        `parking`: where warm processes wait. `watching`: who tells of changed files."""
        self._live = live = Live(world, execution, is_adopting=is_adopting)
        self._parking = parking or Parking(world)
        self._watching = watching
        self._watch: Watch | None = None
        self.id = live.id
        self._wire()
        self.done = asyncio.Event()

    def _wire(self) -> None:
        """The parts that deal with one process."""
        self._writer = Writer(self._live)
        self._deadline = Deadline(self._live)
        self._reader = Reader(self._live, self._writer, self._deadline)

    # --- what others ask of it ----------------------------------------------------------------------

    @property
    def is_stalled(self) -> bool:
        """Its output waits for room on the disk; told from the process, since a full disk stores nothing."""
        return self._live.handle is not None and self._live.handle.is_stalled

    @property
    def process(self) -> str:
        """Its process; another one than it was claimed with when a warm one carries it."""
        return self._live.process

    @property
    def pid(self) -> int | None:
        """The child's pid, once it has one."""
        return self._live.handle.pid if self._live.handle is not None else None

    async def stop(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder; its end is `done`."""
        self._live.stop = (mode, reason)
        if self._live.handle is not None:
            await self._live.handle.stop(mode, reason)

    async def deliver(self, answered: Approval | Question) -> None:
        """Let Claude hear a decision or an answer that is stored already, though it has no slot: its turn ends
        with it, or others of its questions still wait."""
        if self._live.conversation is None:
            return  # still being adopted: it will write every answer that may not have arrived
        self._writer.answer(answered)
        try:
            await self._deadline.tend(await self._live.find())
        except HiveError as exc:
            # The decision stands: whoever made it must not be told that it failed.
            _log.error(
                "the clock of a run is not set",
                extra={"execution": self.id, "code": exc.code},
            )

    async def resume(self) -> None:
        """It was answered and has a slot again: let Claude hear everything it has not heard yet."""
        if self._live.conversation is None:
            return  # still being adopted: it will write every answer that may not have arrived
        failpoint.hit("resume_after_commit")
        await self._send_unheard()
        await self._deadline.tend(await self._live.find())

    async def _send_unheard(self) -> None:
        for answered in await self._live.commit(lambda tx: _unheard(tx, self.id)):
            self._writer.answer(answered)

    # --- its life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """From start (or adoption) to the stored end. Contains every failure of this one execution."""
        try:
            await self._drive()
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
            if self._watch is not None:
                self._watch.stop()
            self.done.set()

    async def _surely_fail(self, outcome: Outcome, error: HiveError | None) -> None:
        """Store the end, however often that fails: without it the lane would stay taken and nobody be told."""
        while True:
            try:
                return await self._fail(outcome, error)
            except Exception:  # noqa: BLE001
                # Contained like the run itself; said each time, so that an operator sees it.
                _log.exception("the end of a run cannot be stored", extra={"execution": self.id})
                await asyncio.sleep(patience.ADOPT_RETRY_S)

    async def _drive(self) -> None:
        live = self._live
        live.stream = log = await live.patiently(
            lambda: live.world.journal.open(live.execution.stream)
        )
        self._reader.go_on_from(log)
        await self._forget_ended_sources(log)
        if live.is_adopting:
            live.handle = await starting.adopt(live)
            if live.handle is None and live.execution.state is not ExecutionState.STARTING:
                await self._finish(Exit(reason=StopReason.EXITED, shim_lost=True))
                return
        carrier: dict[str, Any] = {}
        plan = await starting.prepare(live)
        if self._watching is not None:
            self._watch = self._watching.begin(live, plan.spec.cwd)
        if live.handle is None:
            if live.is_adopting:
                await starting.check_again(live, plan.spec)
            carrier = await self._get_process(plan)
            live.is_adopting = False
        live.execution = await live.commit(
            lambda tx: work.started(tx, self.id, pid=self.pid, **carrier)
        )
        if carrier:
            failpoint.hit("taken_over")
        ended = await self._converse(plan.spec)
        if carrier and ended is not None and await self._is_unheard():
            ended = await self._converse(await self._start_instead(plan))
        if ended is not None:
            failpoint.hit("exit_seen")
            await self._finish(ended)

    async def _converse(self, spec: RunSpec) -> Exit | None:
        """The prompt and all that follows, to the end of the process; None when that was left warm."""
        live = self._live
        spec = replace(spec, follows=live.execution.output_start > 0)
        if live.is_adopting:
            await self._reader.count_again(spec)
        live.conversation = live.world.agent.conversation(spec, offset=self._reader.out)
        await self._open(spec)
        while (ended := await self._reader.follow()) is None:
            if await self._park():
                return None
            self._writer.close()
        return ended

    async def _forget_ended_sources(self, log: StreamLog) -> None:
        """After a restart the log carries offsets of processes that ended since its last snapshot."""
        if log.source_processes() <= {self.process}:
            return
        project = self._live.execution.project
        known = await self._live.commit(lambda tx: work.of_project(tx, project))
        processes = {execution.process for execution in known}
        processes |= {parked.process for parked in self._parking.parked}
        for ended in log.source_processes() - processes:
            log.forget_source(ended)

    async def _get_process(self, plan: starting.Plan) -> dict[str, Any]:
        """The warm process of its conversation, if one waits that fits; else a new one.

        Returns what is to be stored of a warm one: nothing before the state, so that a crash until then
        leaves an execution that was never started."""
        live = self._live
        live.signature = await starting.signature(live, plan) if plan.is_warm else None
        parked = await self._parking.take(plan.spec.session, live.signature)
        if parked is None:
            live.handle = await starting.start(live, plan)
            return {}
        live.process, live.handle = parked.process, parked.handle
        self._reader.begin(parked.out, parked.err)
        limit_s = starting.deadline_s(live.world, plan.spec.options)
        await live.insist(partial(parked.handle.set_deadline, limit_s))
        return {"process": parked.process, "output_start": parked.out}

    async def _is_unheard(self) -> bool:
        """Whether the warm process was dying when the prompt came: what it said, if anything, still belonged
        to the turn before, and nobody stopped it."""
        conversation = self._live.conversation
        if conversation is None or conversation.has_begun or self._live.stop is not None:
            return False
        return (await self._live.find()).stop_mode is None

    async def _start_instead(self, plan: starting.Plan) -> RunSpec:
        """Start a process as if no warm one had waited. What it is to be told has another uuid: Claude
        passes over one that stands in the conversation already."""
        live = self._live
        _log.warning(
            "a warm process died with its prompt",
            extra={"execution": self.id, "process_id": live.process},
        )
        live.log.forget_source(live.process)
        await let_go(live.world, live.process, live.handle)
        live.process, live.handle = make_id("pr"), None
        self._wire()
        spec = replace(plan.spec, prompt_uuid=make_uuid())
        live.handle = await starting.start(live, replace(plan, spec=spec))
        live.execution = await live.commit(
            lambda tx: work.replaced(tx, self.id, process=self.process, pid=self.pid)
        )
        return spec

    async def _open(self, spec: RunSpec) -> None:
        """Write what Claude must have heard by now: again, where it may have heard it already."""
        assert self._live.handle is not None
        assert self._live.conversation is not None
        execution = self._live.execution
        if self._live.handle.exit is not None:
            return
        if self._live.stop is not None:
            await self._live.insist(partial(self._live.handle.stop, *self._live.stop))
            if not self._live.is_adopting:
                # Stopped while it started: it has heard nothing yet, and is to hear nothing.
                self._writer.close()
                return
        if execution.verdict is not None:
            self._writer.close()
            return
        for frame, data in self._live.conversation.opening():
            self._writer.add(frame, data)
        await self._send_unheard()
        if self._live.is_adopting:
            await self._reader.reply_again(spec)
            # Read anew: somebody may have answered since. The flag and the state agree from here on.
            self._live.execution = execution = await self._live.find()
            await self._deadline.adopt(execution)
        self._writer.kick()

    # --- left warm ----------------------------------------------------------------------------------

    async def _park(self) -> bool:
        """Leave the process to the next prompt of its conversation, and end. False when it cannot be left."""
        live, handle = self._live, self._live.handle
        assert handle is not None
        assert live.conversation is not None
        if not self._may_stay():
            return False
        await live.insist(partial(self._parking.settle, handle))
        await self._sync()
        execution = await live.find()
        if not self._may_stay() or execution.session is None:
            return False  # stopped, or ended by itself, meanwhile
        tail = self._reader.stderr_tail()
        outcome = judge(execution, Exit(reason=StopReason.EXITED, code=0), tail, saw_output=True)
        # Before the end is stored: the lane's next prompt may come at once, and looks here.
        self._parking.park(
            Parked(
                process=self.process,
                handle=handle,
                session=execution.session,
                execution=self.id,
                stream=live.log,
                signature=live.signature or "",
                out=live.conversation.consumed,
                err=self._reader.err,
            )
        )
        live.handle = None
        failpoint.hit("parked")
        await self._store_end(replace(outcome, exit_code=None), swept=0)
        return True

    def _may_stay(self) -> bool:
        live, handle = self._live, self._live.handle
        written = OUTPUT_SHARE * (self._reader.out + self._reader.err)
        return (
            self._parking.is_open
            and live.stop is None
            and handle is not None
            and is_sound(handle)
            and self._writer.is_idle
            and written <= live.world.settings().number("execution.max_output_bytes")
        )

    # --- the end ------------------------------------------------------------------------------------

    async def _finish(self, ended: Exit) -> None:
        execution = await self._live.find()
        await self._sync()
        outcome = judge(
            execution, ended, self._reader.stderr_tail(), saw_output=self._reader.saw_output
        )
        await self._end(outcome, swept=ended.swept)

    async def _sync(self) -> None:
        """A run is not told to have ended before what it said is durable."""
        while True:
            try:
                await self._live.log.sync()
            except OSError as exc:
                if exc.errno not in PASSING:
                    raise
                await asyncio.sleep(STORAGE_RETRY_S)
            else:
                return

    async def _fail(self, outcome: Outcome, error: HiveError | None) -> None:
        execution = await self._live.find()
        if self._live.handle is not None and self._live.handle.exit is None:
            try:
                await self._live.handle.stop(StopMode.KILL, StopReason.USER)
                await self._live.handle.wait_exit()
            except (HiveError, OSError):
                # Its end is told all the same; the next start clears the process that is left.
                _log.exception("cannot end a process", extra={"execution": self.id})
        if error is not None and self._live.stop is not None and self._live.handle is None:
            outcome = replace(
                outcome,
                state=ExecutionState.CANCELLED,
                cause=Cause.KILLED,
                message=execution.stop_note or "Stopped before it started.",
            )
        try:
            await self._reader.settle()
        except HiveError:
            _log.exception("the last figures of a run are lost", extra={"execution": self.id})
        await self._end(outcome, swept=0)

    async def _end(self, outcome: Outcome, *, swept: int) -> None:
        await self._store_end(outcome, swept=swept)
        if self._live.stream is not None:
            self._live.stream.forget_source(self.process)
        await let_go(self._live.world, self.process, self._live.handle)

    async def _store_end(self, outcome: Outcome, *, swept: int) -> None:
        if self._watch is not None:
            await self._watch.end()
        rules = capacity.rules(self._live.world.settings())
        await self._live.commit(lambda tx: work.end(tx, self.id, outcome, swept=swept, rules=rules))


def _unheard(tx: Tx, id_: str) -> list[Approval | Question]:
    """Answers Claude may not have heard; none while it has no slot to go on in."""
    if work.find(tx, id_).wants_slot is not None:
        return []
    return pending.undelivered(tx, id_)

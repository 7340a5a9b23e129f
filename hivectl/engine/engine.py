"""Live state: which executions have a process now, and who gets the next slot.

The store decides (states, lanes, the claim), the engine acts: it starts a runner for what was claimed,
passes kills and answers to runners, and keeps no state that a restart would miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from hivectl.engine import capacity
from hivectl.engine.accepting import Accepting
from hivectl.engine.budgets import BudgetClock
from hivectl.engine.claims import Claims
from hivectl.engine.expiring import Expiring
from hivectl.engine.keeping import KeepAlive
from hivectl.engine.outside import Outside
from hivectl.engine.questions import Questions
from hivectl.engine.runner import RETRYABLE, Runner, World
from hivectl.engine.waiting import Waiting
from hivectl.engine.warm import Parking
from hivectl.engine.watching import Watching
from hivectl.engine.worktrees import Worktrees
from hivectl.kit import failpoint
from hivectl.model.approval import Approval
from hivectl.model.errors import HiveError
from hivectl.model.question import Question
from hivectl.model.work import (
    EXECUTION_ENDS,
    LIVE_STATES,
    Execution,
)
from hivectl.ports import StopMode, StopReason
from hivectl.store import lanes, people, work, workers
from hivectl.store.database import OutboxEvent, Tx
from hivectl.store.queue import Claimed

_log = logging.getLogger(__name__)

STOP_MARGIN_S = 15.0
"""How much longer than its rungs a stop ladder may take: the sweep, the last output, the commit."""


_LETTING_GO = frozenset({"approval.expired", "question.expired"})
"""Events after which an execution may want a slot again without anybody having called the engine."""
STALE = frozenset({"session.reset", "project.updated", "project.trust_changed", "project.deleted"})
"""Events after which a warm process of the project is of no use any more."""


class Accepted(msgspec.Struct, frozen=True):
    """A prompt that is durable; `position` (epoch, seq) is the newest of the events of its acceptance."""

    execution: Execution
    is_replayed: bool
    """The same request had been accepted before; the position is the newest of its stream then."""
    position: tuple[str, int]


class Carrier(msgspec.Struct, frozen=True):
    """A process and the execution that whatever descends from it belongs to."""

    pid: int | None
    process: str
    execution: str


class Engine:
    """Starts, stops and adopts runners."""

    def __init__(self, world: World) -> None:
        """Nothing runs before `start`."""
        self.world = world
        self.runners: dict[str, Runner] = {}
        self.keep_alive = KeepAlive(world)
        self.parking = Parking(world)
        self.watching = Watching(world)
        self.worktrees = Worktrees(world.db, world.settings, world.host.contain)
        self.accepting = Accepting(self.worktrees)
        self.expiring = Expiring(world, self.decide)
        self.is_draining = False
        self.outside = Outside(world, wake=self.wake, is_draining=lambda: self.is_draining)
        self._claims = Claims(
            world, self.runners,
            begin=self._begin, after=self.outside.wake, is_draining=lambda: self.is_draining,
        )  # fmt: skip
        self._waiting = Waiting(world.db)
        self.wait = self._waiting.wait
        self._accepted: dict[str, tuple[str, int] | None] = {}
        """Position right after the events of a prompt's acceptance, until it is answered."""
        self.budgets = BudgetClock(world.db, world.settings, stop=self._stop_live, wake=self.wake)
        self.questions = Questions(world, self._hear)
        world.publisher.on_event = self._on_event

    # --- life ---------------------------------------------------------------------------------------

    async def start(self) -> dict[str, int]:
        """Reconcile what the store knows with what lives, then begin to claim. Returns counts for the log."""
        slots = capacity.slots(self.world.settings())
        await self.world.db.write(lambda tx: _mend(tx, slots))
        live = await self.world.db.write(work.live)
        known = {execution.process for execution in live}
        ours = [execution for execution in live if not execution.is_outside]
        for execution in ours:
            self._launch(execution, is_adopting=True)
        strays = [process for process in self.world.host.list_processes() if process not in known]
        if strays:
            _ = self.world.nursery.start(self._clear_strays(strays), name="strays")
        _ = self.world.nursery.start(self._claims.run(), name="claims")
        _ = self.world.nursery.start(self.outside.serve(), name="claims from outside")
        _ = self.world.nursery.start(self.outside.alarm.run(), name="leases")
        _ = self.world.nursery.start(self.budgets.run(), name="budgets")
        _ = self.world.nursery.start(self.accepting.mend(), name="worktrees")
        _ = self.world.nursery.start(self.keep_alive.alarm.run(), name="keep-alive")
        _ = self.world.nursery.start(self.questions.expire_loop(), name="question time-outs")
        _ = self.world.nursery.start(self.expiring.alarm.run(), name="time-outs of approvals")
        self.wake()
        return {"adopted": len(ours), "outside": len(live) - len(ours), "strays": len(strays)}

    async def _clear_strays(self, processes: list[str]) -> None:
        """Process directories nobody knows: of executions that have ended, or of a database that was lost."""
        for process in processes:
            try:
                await self._clear_stray(process)
            except (HiveError, OSError):
                # The others are cleared all the same; this one at the next start.
                _log.warning("cannot clear a process", extra={"process_id": process}, exc_info=True)

    async def _clear_stray(self, process: str) -> None:
        handle = await self.world.host.adopt(process)
        if handle is not None and handle.exit is None:
            _log.warning("ending a process nobody knows", extra={"process_id": process})
            await handle.stop(StopMode.KILL, StopReason.SHUTDOWN)
            await handle.wait_exit()
        self.world.host.remove(process)

    async def stop(self, *, runs: str, timeout_s: float | None) -> list[str]:
        """No new work; then leave the runs going, wait for them, or end them. Returns the ids still live.

        Workers outside live on, whatever becomes of ours."""
        self.is_draining = True
        self.outside.close()
        # Writes settle in order: a claim that was on its way has its runner when this one returns.
        with suppress(HiveError):
            await self.world.db.write(lambda _tx: None)
        if runs == "kill":
            with suppress(HiveError):
                await self.outside.ask_all(note="The daemon was stopped.")
            for runner in self._live_runners():
                await self._stop_one(runner, StopMode.TERMINATE, StopReason.SHUTDOWN)
        if runs in ("kill", "wait"):
            try:
                async with asyncio.timeout(timeout_s):
                    for runner in self._live_runners():
                        await runner.done.wait()
            except TimeoutError:
                _log.warning("runs did not end in time", extra={"live": len(self.runners)})
        return list(self.runners)

    def _live_runners(self) -> list[Runner]:
        return list(self.runners.values())

    async def _stop_live(self, id_: str, mode: StopMode, reason: StopReason) -> None:
        if (runner := self.runners.get(id_)) is not None:
            await runner.stop(mode, reason)

    async def _stop_one(self, runner: Runner, mode: StopMode, reason: StopReason) -> None:
        want = partial(work.want_stop, id_=runner.id, mode=mode, reason=reason)
        try:
            await self.world.db.write(
                lambda tx: want(tx, by="system", note="The daemon was stopped.")
            )
        except HiveError as exc:
            # On a full disk too the runs end; how it ended is read from the process then.
            _log.error("a stop is not stored", extra={"execution": runner.id, "code": exc.code})
        await runner.stop(mode, reason)

    # --- claims -------------------------------------------------------------------------------------

    async def sync_slots(self) -> None:
        """As many slots as they want now, and another look at the queue."""
        slots = capacity.slots(self.world.settings())
        await self.world.db.write(lambda tx: workers.sync_slots(tx, default=slots))
        self.wake()

    def wake(self) -> None:
        """Something was queued, released or answered, or a slot or lane became free."""
        self._claims.wake()

    def _begin(self, claimed: Claimed) -> None:
        if not claimed.is_resumed:
            failpoint.hit("claim_after_commit")
            self._launch(claimed.execution, is_adopting=False)
        elif (runner := self.runners.get(claimed.execution.id)) is not None:
            # Beside the claims: a shim that does not answer must not keep others from starting.
            _ = self.world.nursery.start(runner.resume(), name=f"answers of {runner.id}")

    def carriers(self) -> list[Carrier]:
        """All processes there are: of live executions, and warm ones, which count as their last execution's."""
        live = [Carrier(run.pid, run.process, run.id) for run in list(self.runners.values())]
        warm = [Carrier(p.handle.pid, p.process, p.execution) for p in self.parking.parked]
        return live + warm

    def _launch(self, execution: Execution, *, is_adopting: bool) -> None:
        runner = Runner(
            self.world,
            execution,
            is_adopting=is_adopting,
            parking=self.parking,
            watching=self.watching,
        )
        self.runners[execution.id] = runner
        task = self.world.nursery.start(runner.run(), name=f"run of {execution.id}")
        task.add_done_callback(lambda _task: self._ended_one(execution.id))

    def _ended_one(self, id_: str) -> None:
        self.runners.pop(id_, None)
        self.wake()

    # --- commands -----------------------------------------------------------------------------------

    async def submit(self, wish: work.Wish) -> Accepted:
        """Accept a prompt; it is durable when this returns."""
        if self.is_draining:
            raise HiveError("DRAINING", retry_after_ms=3000)
        if self.world.publisher.is_held(wish.project.stream):
            raise HiveError("STORAGE_FULL", retry_after_ms=1000)
        self._accepted[wish.execution] = None
        try:
            execution, is_replayed = await self.world.db.write(lambda tx: work.enqueue(tx, wish))
        finally:
            position = self._accepted.pop(wish.execution)
        self.wake()
        return Accepted(
            execution, is_replayed, position or self.world.publisher.position(execution.stream)
        )

    async def kill(
        self, ids: list[str], *, mode: StopMode, by: str, note: str, is_strict: bool = False
    ) -> list[Execution]:
        """Stop executions; returns when each is gone, with how it ended.

        One that has ended already is passed over, or with `is_strict` refused: PROCESS_NOT_FOUND. Raises
        STORAGE_FULL when it cannot be stored who stopped it; it is stopped all the same."""
        runners: list[Runner] = []
        outside: list[str] = []
        refused: HiveError | None = None
        for id_ in ids:
            stop = partial(_want_stop, id_=id_, mode=mode, by=by, note=note, is_strict=is_strict)
            try:
                execution = await self.world.db.write(stop)
                is_live = execution.state in LIVE_STATES
                if execution.is_outside:
                    outside.append(id_)
                    if mode is StopMode.KILL:
                        await self.outside.stop_now(id_)
            except HiveError as exc:
                if exc.code not in RETRYABLE:
                    raise
                refused, is_live = exc, True
            if is_live and (runner := self.runners.get(id_)) is not None:
                await runner.stop(mode, StopReason.USER)
                runners.append(runner)
        self.wake()
        if refused is not None:
            raise HiveError(
                refused.code,
                "The disk is full. What was named is being ended; that is stored when there is room.",
                hint="Free some space; `hivectl ps` then shows how it ended.",
                retry_after_ms=1000,
            ) from refused
        await self._wait_gone(runners, outside, mode)
        return [await self.find(id_) for id_ in ids]

    async def _wait_gone(self, runners: list[Runner], outside: list[str], mode: StopMode) -> None:
        settings = self.world.settings()
        rungs = {
            StopMode.KILL: (),
            StopMode.INTERRUPT: ("execution.interrupt_s",),
            StopMode.TERMINATE: ("execution.interrupt_s", "execution.close_s", "execution.term_s"),
        }[mode]
        margin = 0.0 if mode is StopMode.INTERRUPT else STOP_MARGIN_S
        limit = sum(settings.seconds(key) for key in rungs) + margin
        try:
            async with asyncio.timeout(limit):
                for runner in runners:
                    await runner.done.wait()
                for id_ in outside:
                    await self.wait(id_, timeout_s=None, or_waiting=False)
        except TimeoutError:
            _log.warning("a stop takes longer than it may", extra={"limit_s": limit, "mode": mode})

    async def decide(self, decide: Callable[[Tx], Approval]) -> Approval:
        """Store a decision, then let Claude hear it: at once where others still wait or the turn ends, else
        when the execution has a slot again."""
        decided, execution = await self.world.db.write(lambda tx: _decide(tx, decide))
        failpoint.hit("decision_after_commit")
        if execution.wants_slot is not None and execution.stop_mode is None:
            self.wake()  # Claude hears it when there is a slot for it to go on in
        elif (runner := self.runners.get(decided.execution)) is not None:
            await runner.deliver(decided)
        return decided

    async def answer(self, answer: Callable[[Tx], Question]) -> Question:
        """Store an answer, then let the asker hear it, by the same rules as a decision."""

        def change(tx: Tx) -> Question:
            answered = answer(tx)
            if answered.execution is not None:
                work.go_on(tx, answered.execution)
            return answered

        answered = await self.world.db.write(change)
        failpoint.hit("decision_after_commit")
        await self._hear(answered)
        return answered

    async def _hear(self, answered: Question) -> None:
        if answered.request is None or answered.execution is None:
            self.wake()  # whoever asked through the protocol reads it there, and may want a slot again
            return
        execution = await self.find(answered.execution)
        if execution.wants_slot is not None and execution.stop_mode is None:
            self.wake()
        elif (runner := self.runners.get(execution.id)) is not None:
            await runner.deliver(answered)

    async def find(self, ref: str) -> Execution:
        """An execution as stored. Raises EXECUTION_NOT_FOUND."""
        return await self.world.db.write(lambda tx: work.find(tx, ref))

    def reloaded(self) -> None:
        """The settings have changed."""
        self.budgets.stir()
        _ = self.world.nursery.start(self.sync_slots(), name="slots")
        self.keep_alive.alarm.wake()

    def _on_event(self, event: OutboxEvent) -> None:
        self.questions.on_event(event)
        self.expiring.on_event(event)
        self.budgets.on_event(event)
        if event.type == "execution.ended":
            self.keep_alive.alarm.wake()
        elif event.type == "session.ended" and event.session is not None:
            self.parking.close(event.session)
        elif event.type in STALE:
            self.parking.close_stream(event.stream)
        if event.type == "execution.created" and event.execution in self._accepted:
            self._accepted[event.execution] = self.world.publisher.position(event.stream)
        if event.execution is None:
            return
        if event.type in _LETTING_GO:
            self.wake()
        self._waiting.on_event(event)
        if event.type.startswith("execution.") and b'"state":"waiting"' in event.data:
            self.wake()  # its slot is free


def _want_stop(tx: Tx, id_: str, *, is_strict: bool, **how: Any) -> Execution:
    execution = work.find(tx, id_)
    if execution.state in EXECUTION_ENDS and is_strict:
        raise HiveError(
            "PROCESS_NOT_FOUND",
            f"Execution {execution.id} has ended already ({execution.state}).",
            details={"execution": execution.id, "state": execution.state},
        )
    return work.want_stop(tx, execution.id, reason=StopReason.USER, **how)


def _mend(tx: Tx, slots: int) -> None:
    lanes.mend(tx)
    workers.mend(tx, default=slots)


def _decide(tx: Tx, decide: Callable[[Tx], Approval]) -> tuple[Approval, Execution]:
    decided = decide(tx)
    if decided.answer and decided.answer.get("interrupt"):
        # The turn ends with it: the execution was stopped by whoever denied, and says so.
        work.want_stop(
            tx, decided.execution, mode=StopMode.INTERRUPT, reason=StopReason.USER, by=decided.decided_by or "",
            note=decided.message,
        )  # fmt: skip
    return people.find(tx, decided.id), work.go_on(tx, decided.execution)

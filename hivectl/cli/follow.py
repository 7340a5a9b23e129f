"""Watch one execution to its end: show it, let a person answer, obey Ctrl-C, survive daemon restarts.

Only the watching is here; what an event looks like is `transcript`, where it goes is `screen`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, bulk, questions, views
from hivectl.cli.transcript import Line, Piece, Progress, Shown, Transcript
from hivectl.client.subscription import Notice
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import SystemClock, format_duration
from hivectl.model.errors import ExitCode, HiveError
from hivectl.model.work import EXECUTION_ENDS, ExecutionState, exit_code_of

if TYPE_CHECKING:
    from hivectl.cli.session import Session
    from hivectl.client.aio import Client

SECOND_CTRL_C_S = 2.0
GIVE_UP_S = 60.0
"""How long an unattended watcher waits for a lost daemon; a person at a terminal decides for themselves."""
LAST_EVENTS_S = 5.0
_CLOSE_S = 3.0


class End(Enum):
    """Why the watching ended."""

    ENDED = "ended"
    DETACHED = "detached"
    WAITS = "waits"


@dataclass(kw_only=True)
class Watch:
    """One execution being watched. `is_quiet`: show nothing but what a person must act on."""

    session: Session
    client: Client
    execution: str
    stream: str
    since: Any
    is_quiet: bool = False
    has_partials: bool = False
    waits_for_people: bool = True
    is_visit: bool = False
    """Ctrl-C leaves at once: there is a place to go back to."""
    transcript: Transcript = field(
        default_factory=lambda: Transcript(has_prompts=False, has_ends=False)
    )
    _end: End = End.ENDED
    _open: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _asking: tuple[str, asyncio.Task[Any]] | None = None
    _asker: asyncio.Task[Any] | None = None
    _decided_here: set[str] = field(default_factory=set)
    _retry: str = ""
    _state: str = "pending"
    _is_cancelling: bool = False
    _clock: SystemClock = field(default_factory=SystemClock)
    _started: float = 0.0
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> End:
        """Until the end, the person's wish to leave, or a question nobody is there to answer."""
        self._started = self._clock.monotonic()
        failures: list[BaseException] = []
        nursery = Nursery(lambda _name, error: failures.append(error))
        self._nursery = nursery
        watching = [
            nursery.start(self._follow(), name="events"),
            nursery.start(self._obey_signals(), name="signals"),
            nursery.start(self._last_events(), name="last events"),
        ]
        if not self.is_quiet:
            self._ticker = nursery.start(self._tick(), name="status line")
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await nursery.close(within_s=_CLOSE_S)
            self.session.screen.status("")
        for task in watching:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        return self._end

    def show_past(self, past: Iterable[Shown]) -> None:
        """Show what was read from the log."""
        if not self.is_quiet:
            for shown in past:
                self._show(shown)

    # -- events -------------------------------------------------------------------------------

    async def _follow(self) -> None:
        give_up_s = None if self.session.screen.is_interactive else GIVE_UP_S
        subscription = self.client.subscribe(
            [self.stream], since=self.since, partials=self.has_partials, give_up_s=give_up_s
        )
        async with subscription:
            async for item in subscription.items():
                if isinstance(item, Notice):
                    if await self._notice(item):
                        return
                elif item.get("execution") == self.execution and await self._event(item):
                    return

    async def _notice(self, notice: Notice) -> bool:
        screen = self.session.screen
        match notice.kind:
            case "disconnected":
                screen.note(
                    ("dim", "the daemon is gone; the run goes on; waiting for it to come back")
                )
                if not notice.data.get("graceful"):
                    await self.client.revive()
            case "reconnected":
                screen.note(("dim", "connected again"))
            case "caught_up":
                return await self._has_ended(notice.data.get("positions") or {})
            case "reset" | "epoch_changed":
                screen.note(("warn", "a part of the log was lost; going on from what is left"))
            case _:
                pass
        return False

    async def _has_ended(self, positions: Mapping[str, Any]) -> bool:
        """Whether it is over and everything of it was shown: its end is older than where we began.

        An execution that ended just now still has events on their way; they are waited for a little,
        in case one of them is not where it should be.
        """
        now = await self.client.execution_get(self.execution)
        self._state = now["state"]
        if ExecutionState(now["state"]) in EXECUTION_ENDS:
            place = positions.get(now["stream"])
            if place is None or now["seq"] <= place["seq"]:
                return True
            self._over.set()
            return False
        for approval in now["waiting_for"]:
            if approval.startswith("q_"):
                await self._ask(await self.client.call("question.get", id=approval))
            elif approval.startswith("a_"):
                await self._ask(await self.client.approval_get(approval))
        return self._end is End.WAITS

    async def _last_events(self) -> None:
        await self._over.wait()
        await asyncio.sleep(LAST_EVENTS_S)

    async def _event(self, event: Mapping[str, Any]) -> bool:
        kind, data = event["type"], event.get("data") or {}
        if kind == "approval.requested":
            await self._ask(data)
            return self._end is End.WAITS
        if kind == "question.asked" and data.get("claude_request"):
            await self._ask(questions.from_event(data))
            return self._end is End.WAITS
        if kind in {
            "approval.decided",
            "approval.expired",
            "question.answered",
            "question.expired",
        }:
            self._take_back(data)
        if kind == "execution.state":
            self._state = str(data.get("state"))
        if not self.is_quiet:
            for shown in self.transcript.feed(event):
                self._show(shown)
            self._draw_status()
        elif not (self.session.screen.out_is_terminal or self.session.is_json):
            self._tell_retries(event)
        return bool(kind == "execution.ended") and not self.goes_on(event)

    def goes_on(self, ended: Mapping[str, Any]) -> bool:
        """Whether another attempt follows by itself: then that is watched from here on."""
        data = ended.get("data") or {}
        following = data.get("next_execution")
        is_kept = data.get("cause") == "usage_limit" and not data.get("retry_at")
        if not following or is_kept or self._end is not End.ENDED:
            return False
        self.execution, self._state, self._retry = str(following), "pending", ""
        return True

    def _tell_retries(self, event: Mapping[str, Any]) -> None:
        """Where nothing is shown live: one line for each time Claude tries again."""
        for shown in self.transcript.feed(event):
            if event["type"] == "work_order.state":
                self._show(shown)
            if not isinstance(shown, Progress):
                continue
            before, self._retry = self._retry, shown.text
            is_same = before and (shown.text.startswith(before) or before.startswith(shown.text))
            if shown.text and not is_same:
                self.session.screen.note(("warn", shown.text))

    def _show(self, shown: Shown) -> None:
        screen = self.session.screen
        match shown:
            case Line(is_answer=True):
                screen.show(*shown.pieces)
            case Line():
                screen.note(*shown.pieces, cut=shown.is_single)
            case Piece():
                screen.write_piece(shown.text)
            case Progress():
                self._retry = shown.text

    async def _tick(self) -> None:
        while True:
            self._draw_status()
            await asyncio.sleep(1.0)

    def _draw_status(self) -> None:
        if self._open or self.is_quiet:
            return
        took_s = int(self._clock.monotonic() - self._started)
        took = f" · {format_duration(took_s)}" if took_s else ""
        self.session.screen.status(f"… {self._retry or self._state}{took} · Ctrl-C detaches")

    # -- people -------------------------------------------------------------------------------

    async def _ask(self, approval: Mapping[str, Any]) -> None:
        if approval.get("state", "pending") != "pending" or approval["id"] in self._open:
            return
        screen = self.session.screen
        self._open[approval["id"]] = approval
        if screen.is_interactive and not self.session.is_json:
            screen.status("")
            if self._asker is None or self._asker.done():
                self._asker = self._nursery.start(self._ask_all(), name="questions")
            return
        if approval["id"].startswith("q_"):
            screen.note(("ask", "Claude asks"), ("", f"  {approval['text']}"), cut=True)
            screen.note(("", f'  hivectl answer {approval["id"]} "…"'))
            if not self.waits_for_people:
                self._end = End.WAITS
            return
        if asking.is_plan(approval):
            asking.show_plan(screen, approval)
        else:
            what = views.what(approval)
            screen.note(("ask", f"Claude wants {approval['tool']}"), ("", f"  {what}"), cut=True)
        screen.note(
            ("", f"  hivectl approve {approval['id']}   or   hivectl deny {approval['id']}")
        )
        if not self.waits_for_people:
            self._end = End.WAITS

    async def _ask_all(self) -> None:
        """One question after the other; each can be taken back while it is asked."""
        while self._open:
            name, approval = next(iter(self._open.items()))
            task = self._nursery.start(self._answer(approval), name=f"ask {name}")
            self._asking = (name, task)
            await asyncio.wait([task])
            self._asking = None
            self._open.pop(name, None)

    async def _answer(self, approval: Mapping[str, Any]) -> None:
        screen, settings = self.session.screen, self.session.settings
        while True:
            if approval["id"].startswith("q_"):
                decision = await questions.ask(screen, approval)
            elif asking.needs_answers(approval):
                decision = await asking.ask_question(screen, approval)
            else:
                decision = await asking.ask_permission(
                    screen, settings, approval,
                    may_remember=lambda: bulk.wants_rule(self.session, self.client, approval), is_here=self.client.endpoint.is_local,
                )  # fmt: skip
            if decision is None:
                verb = "answer" if approval["id"].startswith("q_") else "approve"
                screen.note(("dim", f"  left open: hivectl {verb} {approval['id']}"))
                return
            self._decided_here.add(approval["id"])
            try:
                method = "question.answer" if approval["id"].startswith("q_") else "approval.decide"
                await self.client.call(
                    method, id=approval["id"], version=approval["version"], **decision
                )
            except HiveError as exc:
                self._decided_here.discard(approval["id"])
                screen.note(("warn", f"  {exc.message}"))
                if exc.code == "INVALID_PARAMS":
                    continue  # the answer did not fit: it still waits for one
            return

    def _take_back(self, approval: Mapping[str, Any]) -> None:
        name = str(approval.get("id"))
        self._open.pop(name, None)
        if name in self._decided_here:
            return
        if self._asking is not None and self._asking[0] == name and not self._asking[1].done():
            self._asking[1].cancel()
            self.session.screen.note(("dim", "\n  (answered elsewhere)"))

    # -- signals ------------------------------------------------------------------------------

    async def _obey_signals(self) -> None:
        async with _signals() as wait_for_signal:
            while True:
                await wait_for_signal()
                if self.session.screen.is_interactive and not self._is_cancelling:
                    if await self._detach_or_cancel(wait_for_signal):
                        return
                else:
                    self._cancel("kill" if self._is_cancelling else "terminate")

    async def _detach_or_cancel(self, wait_for_signal: Any) -> bool:
        screen = self.session.screen
        screen.status("")
        if self.is_visit:
            self._end = End.DETACHED
            return True
        screen.note(
            ("", f"\ndetached; it goes on. Come back with: hivectl attach {self.execution}")
        )
        screen.note(("warn", "Ctrl-C again within 2 s cancels it"))
        was_quiet, self.is_quiet = self.is_quiet, True
        try:
            async with asyncio.timeout(SECOND_CTRL_C_S):
                await wait_for_signal()
        except TimeoutError:
            self._end = End.DETACHED
            return True
        self.is_quiet = was_quiet
        self._cancel("terminate")
        return False

    def _cancel(self, mode: str) -> None:
        self._is_cancelling = True
        self.session.screen.note(("warn", f"cancelling {self.execution}"))
        self._killer = self._nursery.start(self._kill(mode), name="cancel")

    async def _kill(self, mode: str) -> None:
        with suppress(HiveError):
            await self.client.call(
                "kill", execution=self.execution, mode=mode, reason="cancelled at the terminal"
            )


@asynccontextmanager
async def _signals() -> AsyncIterator[Any]:
    """A function that waits for the next SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    names = (signal.SIGINT, signal.SIGTERM)
    installed = []
    for name in names:
        with suppress(RuntimeError, ValueError):  # not in the main thread: tests
            loop.add_signal_handler(name, arrived.set)
            installed.append(name)

    async def wait_for_signal() -> None:
        await arrived.wait()
        arrived.clear()

    try:
        yield wait_for_signal
    finally:
        for name in installed:
            loop.remove_signal_handler(name)


def exit_code(end: End, execution: Mapping[str, Any]) -> ExitCode:
    """What the command exits with."""
    if end is End.DETACHED:
        return ExitCode.INTERRUPTED
    if end is End.WAITS:
        return ExitCode.WAITS
    return exit_code_of(ExecutionState(execution["state"]), execution.get("cause"))

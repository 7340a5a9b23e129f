"""`hivectl top`: the board on a terminal, with keys; without one a single look.

Nothing is asked of the daemon while nothing happens: it is woken by events, reads the lists again at most
once a second, and redraws once a second only while something runs (its ages change).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, bulk, executing, questions, views
from hivectl.cli.board import TYPES, Board, Row
from hivectl.cli.canvas import Canvas, Styled
from hivectl.cli.keys import Terminal
from hivectl.cli.sanitize import one_line
from hivectl.cli.session import Session, all_items, now_s
from hivectl.client.subscription import Notice
from hivectl.kit.aio import Nursery
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

REDRAW_S = 1.0
_CLOSE_S = 3.0
_HELP = "j/k move · Enter attach · y answer · K kill · / filter · p this project · q quit"
_PAGE = 10
_STEPS = {
    "j": 1,
    "down": 1,
    "k": -1,
    "up": -1,
    "pagedown": _PAGE,
    "pageup": -_PAGE,
    "home": -1000,
    "end": 1000,
}


async def load(client: Client, board: Board) -> None:
    """Read what the daemon says now."""
    executions = await all_items(client, "execution.list", states=list(views.UNFINISHED))
    has_queued = any(item["state"] == "pending" for item in executions)
    orders = (await client.call("queue.list"))["items"] if has_queued else []
    board.load(executions, orders, await client.call("queue.stats"))


async def load_all(client: Client, board: Board) -> None:
    """The same, with what changes seldom."""
    await load(client, board)
    used = await client.call("usage", by="day", since="1d", limit=1)
    today = used["items"][0] if used["items"] else used["total"]
    board.cost_today = float(today["cost_usd"])
    board.is_estimate = bool(today["estimated_usd"])
    board.names |= {item["id"]: item["name"] for item in await all_items(client, "project.list")}


async def snapshot(hive: Session, client: Client) -> int:
    """One look, for pipes and programs."""
    board = Board()
    await load_all(client, board)
    if hive.options.output in {"json", "yaml"}:
        page = await client.call("execution.list", states=list(views.UNFINISHED), limit=1000)
        hive.print_document({"queue": board.stats, "cost_today_usd": board.cost_today, **page})
    elif hive.options.output == "name":
        hive.screen.result("\n".join(row.execution for row in board.shown()))
    else:
        width = hive.screen.table_width or sys.maxsize
        lines = [*board.header(), "", *(text for _, text in board.table(now_s(), width))]
        hive.screen.result("\n".join(lines if board.rows else board.header()))
    return 0


def is_live(hive: Session) -> bool:
    """Whether there is a person to show it to."""
    return (
        hive.options.output in {"table", "wide"}
        and hive.screen.is_interactive
        and sys.stdout.isatty()
    )


class Top:
    """The live table."""

    def __init__(self, hive: Session, client: Client) -> None:
        """Nothing is drawn before `run`."""
        self._hive, self._client = hive, client
        self.board = Board()
        self._changed = asyncio.Event()
        self._note = ""
        self._question = ""
        self._has_failed = asyncio.Event()
        self._is_connected = True
        self._failures: list[BaseException] = []
        self._nursery = Nursery(lambda _name, error: self._fail(error))

    async def run(self) -> int:
        """Until the person leaves."""
        await load_all(self._client, self.board)
        _ = self._nursery.start(self._follow(), name="events")
        try:
            while (act := await self._show()) is not None:
                await self._leave_for(act)
        finally:
            await self._nursery.close(within_s=_CLOSE_S)
        if self._failures:
            raise self._failures[0]
        return 0

    def _fail(self, error: BaseException) -> None:
        self._failures.append(error)
        self._has_failed.set()

    # -- what comes -----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async with self._client.subscribe(["*"], since="now", types=TYPES) as subscription:
            async for item in subscription.items():
                if isinstance(item, Notice):
                    self._is_connected = item.kind != "disconnected"
                    self.board.needs_lists = True
                    self._changed.set()
                elif self.board.apply(item):
                    self._changed.set()

    async def _redraw(self, canvas: Canvas) -> None:
        """Draw what changed, at most once a second but at once after a key."""
        while True:
            if self.board.needs_lists and self._is_connected:
                with suppress(HiveError):  # it is away for a moment: the subscription tells
                    await load(self._client, self.board)
            self._draw(canvas)
            # Ages change while something is there; an empty table stays as it is.
            limit_s = REDRAW_S if self.board.rows else None
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._changed.wait()
            await asyncio.sleep(REDRAW_S)

    def _draw(self, canvas: Canvas) -> None:
        columns, lines = canvas.size
        head: list[Styled] = [("bold", text) for text in self.board.header()]
        if not self._is_connected:
            head.append(("warn", "the daemon is gone; waiting for it to come back"))
        chosen = self.board.chosen()
        table = self.board.table(now_s(), columns)
        foot: list[Styled] = [
            ("ask" if self._question else "dim", self._question or self._note or _HELP)
        ]
        room = max(lines - len(head) - 3, 1)
        body = self._part(table[1:], chosen, room)
        if not body:
            body = [("dim", "nothing runs or waits")]
        padding: list[Styled] = [("", "")] * max(room - len(body), 0)
        canvas.draw([*head, ("", ""), ("dim", table[0][1]), *body, *padding, *foot])

    @staticmethod
    def _part(rows: list[tuple[str | None, str]], chosen: Row | None, room: int) -> list[Styled]:
        """As many rows as there is room for, with the chosen one among them."""
        name = chosen.execution if chosen else None
        here = next((number for number, (row, _) in enumerate(rows) if row == name), 0)
        start = max(min(here - room // 2, len(rows) - room), 0)
        part = rows[start : start + room]
        return [("chosen" if row == name else "", text) for row, text in part]

    # -- keys -----------------------------------------------------------------------------------------

    async def _show(self) -> Coroutine[Any, Any, None] | None:
        """Draw and obey keys; what is to be done with the terminal given back, or None to quit."""
        color = self._hive.options.color is not False and not os.environ.get("NO_COLOR")  # noqa: TID251
        async with Terminal() as keys:
            canvas = Canvas(color=color)
            drawing = self._nursery.start(self._redraw(canvas), name="screen")
            try:
                while True:
                    act = await self._obey(keys, canvas)
                    if act is not None:
                        return act[0]
            finally:
                drawing.cancel()
                await asyncio.wait([drawing])

    async def _read(self, keys: Terminal) -> str:
        """The next key; `quit` when the watching itself failed."""
        reading = self._nursery.start(keys.read(), name="keys")
        failing = self._nursery.start(self._has_failed.wait(), name="faults")
        await asyncio.wait([reading, failing], return_when=asyncio.FIRST_COMPLETED)
        failing.cancel()
        if reading.done():
            return str(reading.result())
        reading.cancel()
        return "quit"

    async def _obey(
        self, keys: Terminal, canvas: Canvas
    ) -> tuple[Coroutine[Any, Any, None] | None] | None:
        """One key. A tuple leaves the screen: for what is in it, or for good."""
        key = await self._read(keys)
        self._note = ""
        row = self.board.chosen()
        match key:
            case "q" | "quit" | "eof":
                return (None,)
            case "/":
                await self._ask_filter(keys, canvas)
            case "p":
                self.board.only = None if self.board.only or row is None else row.project
            case "esc":
                self.board.filter, self.board.only = "", None
            case step if step in _STEPS:
                self.board.move(_STEPS[step])
            case "enter" | "t" if row is not None:
                return (self._attach(row),)
            case "y" if row is not None:
                if row.waiting_for:
                    return (self._answer(row.waiting_for[0]),)
                self._note = f"{row.execution} waits for nobody"
            case "K" if row is not None:
                await self._ask_kill(keys, canvas, row)
            case _:
                self._note = ""
        self._draw(canvas)
        return None

    async def _ask_filter(self, keys: Terminal, canvas: Canvas) -> None:
        before = self.board.filter
        while True:
            self._question = f"/{self.board.filter}_   (Enter keeps it, Esc takes it back)"
            self._draw(canvas)
            key = await self._read(keys)
            match key:
                case "enter":
                    break
                case "esc" | "quit" | "eof":
                    self.board.filter = before
                    break
                case "clear":
                    self.board.filter = ""
                case "backspace":
                    self.board.filter = self.board.filter[:-1]
                case _ if len(key) == 1:
                    self.board.filter += key
                case _:
                    continue
        self._question = ""

    async def _ask_kill(self, keys: Terminal, canvas: Canvas, row: Row) -> None:
        self._question = f"kill {row.execution} of {self.board.name(row)}? y/n"
        self._draw(canvas)
        answer = await self._read(keys)
        self._question = ""
        if answer != "y":
            self._note = "not killed"
            return
        self._note = f"ending {row.execution} …"
        _ = self._nursery.start(self._kill(row), name="kill")

    async def _kill(self, row: Row) -> None:
        try:
            done = await self._client.call(
                "kill", execution=row.execution, mode="terminate", reason="killed in `hivectl top`"
            )
            self._note = one_line(views.killed(done, "terminate"))
        except HiveError as exc:
            self._note = one_line(exc.message)
        self._changed.set()

    # -- away from the table ---------------------------------------------------------------------------

    async def _leave_for(self, act: Coroutine[Any, Any, None]) -> None:
        try:
            await act
        except HiveError as exc:
            self._note = one_line(exc.message)
        self.board.needs_lists = True

    async def _attach(self, row: Row) -> None:
        screen = self._hive.screen
        found = await self._client.call("execution.get", execution=row.execution)
        screen.note(("dim", "Ctrl-C goes back to the table"))
        code = await executing.attach(
            self._hive, self._client, found, partials=False, waits_for_people=True, is_visit=True
        )
        if code != 130:
            await self._pause()

    async def _answer(self, id_: str) -> None:
        """Show what is asked, and let the person decide."""
        screen = self._hive.screen
        if id_.startswith("q_"):
            question = await self._client.call("question.get", id=id_)
            said = await questions.ask(screen, question)
            method = "question.answer"
            asked = question
        else:
            asked = await self._client.call("approval.get", id=id_)
            method = "approval.decide"
            if asking.needs_answers(asked):
                said = await asking.ask_question(screen, asked)
            else:
                said = await asking.ask_permission(
                    screen, self._hive.settings, asked,
                    may_remember=lambda: bulk.wants_rule(self._hive, self._client, asked),
                    is_here=self._client.endpoint.is_local,
                )  # fmt: skip
        if said is None:
            self._note = f"{id_} still waits"
            return
        await self._client.call(method, id=id_, version=asked["version"], **said)
        self._note = f"{id_} is answered"

    async def _pause(self) -> None:
        self._hive.screen.prompt("Enter goes back to the table ")
        await asking.read_line()

"""Read logs backward and follow them forward, without a gap between the two."""

from __future__ import annotations

import base64
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from hivectl.cli import choosing, jsonline
from hivectl.cli.sanitize import one_line, sanitize
from hivectl.cli.screen import PALETTE
from hivectl.cli.session import Session, all_items
from hivectl.cli.table import shorten, width_of
from hivectl.cli.transcript import Line, Transcript
from hivectl.client.subscription import Notice
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

T = TypeVar("T")
_PAGE = 1000
_EVENTS_A_LINE = 4
MOST_NAME = 24
"""Columns of a project's name before its lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be read. `projects` empty = all; `last` None = everything; `execution` limits to one."""

    projects: Sequence[str]
    execution: str | None = None
    last: int | None = None
    since: str | None = None
    grep: str | None = None
    follow: bool = False


def refuse_raw_terminal(hive: Session, *, raw: bool) -> None:
    """Raw lines may hold anything a terminal obeys."""
    if raw and hive.screen.out_is_terminal:
        raise HiveError(
            "INVALID_PARAMS",
            "--raw does not print to a terminal, because the lines could control it.",
            hint="Send it to a file or a pipe, or use --json.",
        )


async def projects_of(
    hive: Session, client: Client, named: list[str], *, everything: bool
) -> list[str]:
    """Ids of the wanted projects; empty = all."""
    if everything:
        return []
    if not named:
        here = await choosing.find_project(hive, client, None)
        named = [here] if here else []
    return [(await client.call("project.get", project=name))["id"] for name in named]


async def names_of(client: Client) -> dict[str, str]:
    """Names by id."""
    return {item["id"]: item["name"] for item in await all_items(client, "project.list")}


@dataclass(slots=True)
class View:
    """How events are printed: one JSON a line, raw, or for people with one colour a project."""

    hive: Session
    raw: bool
    has_prefix: bool
    names: dict[str, str] = field(default_factory=dict)
    _transcripts: dict[str, Transcript] = field(default_factory=dict)
    _widest: int = 0
    """Columns of the prefix so far: names stand below each other."""

    def show(self, event: Mapping[str, Any]) -> None:
        """Print one event."""
        if self.raw:
            _write_raw(event)
        elif self.is_for_programs:
            self.hive.screen.result(jsonline.dump(event))
        else:
            self._show_to_people(event)

    def count(self, events: Sequence[Mapping[str, Any]]) -> int:
        """How many of the things `-n` counts these events, oldest first, would print."""
        if self.raw:
            return sum(_is_raw(event) for event in events)
        if self.is_for_programs:
            return len(events)
        alone = View(self.hive, raw=False, has_prefix=False)
        return sum(len(alone._lines(event)) for event in events)

    @property
    def is_for_programs(self) -> bool:
        """Whether every event is printed as it is."""
        return self.raw or self.hive.options.output in {"json", "yaml", "name"}

    def show_past(self, logs: Sequence[Sequence[Mapping[str, Any]]], last: int | None) -> None:
        """Print what was, by time: everything, or the last of each log."""
        if self.is_for_programs:
            wanted = [_last([e for e in log if not self.raw or _is_raw(e)], last) for log in logs]
            for event in sorted(chain.from_iterable(wanted), key=_time):
                self.show(event)
            return
        shown: list[tuple[str, list[tuple[str, str]], Line]] = []
        for log in logs:
            lines = [(event, item) for event in log for item in self._lines(event)]
            shown += [
                (_time(event), self._prefix(event), item) for event, item in _last(lines, last)
            ]
        for _, prefix, item in sorted(shown, key=lambda found: found[0]):
            self._print(prefix, item)

    def note(self, text: str) -> None:
        """Something about the following itself."""
        if not self.hive.is_json and not self.raw:
            self.hive.screen.note(("dim", text))

    def align(self, names: Iterable[str]) -> None:
        """Make room for these names from the first line on."""
        widths = [min(width_of(one_line(name)), MOST_NAME) for name in names]
        self._widest = max([self._widest, *widths])

    def _show_to_people(self, event: Mapping[str, Any]) -> None:
        prefix = self._prefix(event)
        for item in self._lines(event):
            self._print(prefix, item)

    def _print(self, prefix: list[tuple[str, str]], item: Line) -> None:
        """Every line of a text has the prefix, so that projects are told apart in the middle of one too."""
        for row in rows_of(item) if prefix else [item.pieces]:
            self.hive.screen.show(*prefix, *row, cut=item.is_single)

    def _lines(self, event: Mapping[str, Any]) -> list[Line]:
        key = str(event.get("execution") or event.get("stream"))
        transcript = self._transcripts.get(key)
        if transcript is None:
            transcript = Transcript(verbose=self.hive.options.verbose)
            self._transcripts[key] = transcript
        if event.get("type") in {"project.created", "project.updated"}:
            data = event.get("data") or {}
            self.names[str(data.get("id"))] = str(data.get("name"))
        lines = [shown for shown in transcript.feed(event) if isinstance(shown, Line)]
        if event.get("type") == "execution.ended":
            del self._transcripts[key]
        return lines

    def _prefix(self, event: Mapping[str, Any]) -> list[tuple[str, str]]:
        if not self.has_prefix:
            return []
        project = str(event.get("project") or event.get("stream", "")).removeprefix("project:")
        name = one_line(self.names.get(project, project))
        color = PALETTE[zlib.crc32(name.encode("utf-8", "replace")) % len(PALETTE)]
        self._widest = max(self._widest, min(width_of(name), MOST_NAME))
        shown = shorten(name, MOST_NAME)
        return [(color, shown + " " * (self._widest - width_of(shown)) + " | ")]


def rows_of(item: Line) -> list[tuple[tuple[str, str], ...]]:
    """The pieces of each line of a text."""
    if item.is_single:
        return [item.pieces]
    rows: list[list[tuple[str, str]]] = [[]]
    for style, text in item.pieces:
        first, *others = sanitize(text).split("\n")
        rows[-1].append((style, first))
        rows += [[(style, other)] for other in others]
    return [tuple(row) for row in rows]


def _last(items: list[T], count: int | None) -> list[T]:
    return items if count is None else items[max(len(items) - count, 0) :]


def _time(event: Mapping[str, Any]) -> str:
    return str(event["ts"])


def _is_raw(event: Mapping[str, Any]) -> bool:
    """Whether it is a line that Claude wrote."""
    data = event.get("data") or {}
    is_line = event.get("type") == "message" and data.get("kind") != "prompt"
    return is_line and ("raw_b64" in data or "raw" in data)


def _write_raw(event: Mapping[str, Any]) -> None:
    """The line as Claude wrote it; events that are no line of Claude's are left out."""
    if not _is_raw(event):
        return
    data = event["data"]
    if "raw_b64" in data:
        sys.stdout.flush()
        sys.stdout.buffer.write(base64.b64decode(data["raw_b64"]) + b"\n")
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(jsonline.dump(data["raw"]) + "\n")
        sys.stdout.flush()


async def run(client: Client, wish: Wish, view: View) -> int:
    """Print what was, then what comes."""
    streams = [f"project:{name}" for name in wish.projects]
    if not streams:
        streams = [item["stream"] for item in await all_items(client, "project.list")]
    view.align([name for id_, name in view.names.items() if f"project:{id_}" in streams])
    positions: dict[str, Any] = {}
    logs: list[Sequence[Mapping[str, Any]]] = []
    for stream in streams:
        events, positions[stream] = await _past(client, stream, wish, view)
        logs.append(events)
    past = list(chain.from_iterable(logs))
    if _begins_later(past, wish):
        view.note("the log no longer holds its beginning")
    view.show_past(logs, wish.last)
    if wish.follow and not (wish.execution and _has_end(past, wish.execution)):
        await _follow(client, wish, view, positions)
    return 0


def _begins_later(events: Sequence[Mapping[str, Any]], wish: Wish) -> bool:
    """Whether an execution was to be shown from its beginning, and that is gone (`hivectl prune`)."""
    if wish.execution is None or wish.last is not None or wish.since or wish.grep:
        return False
    return not any(event["type"] == "execution.created" for event in events)


def _has_end(events: Sequence[Mapping[str, Any]], execution: str) -> bool:
    return any(
        event["type"] == "execution.ended" and event.get("execution") == execution
        for event in events
    )


async def _past(
    client: Client, stream: str, wish: Wish, view: View
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Events that match, oldest first, enough for the wished last ones; the place to follow from.

    Many events show nothing to people: it reads backward, more at a time, until enough are found.
    """
    filters = {
        name: value
        for name, value in (
            ("execution", wish.execution),
            ("since", wish.since),
            ("grep", wish.grep),
        )
        if value is not None
    }
    found: list[Mapping[str, Any]] = []
    before: dict[str, int] = {}
    place: dict[str, Any] | None = None
    wanted = _PAGE if wish.last is None else min(wish.last * _EVENTS_A_LINE + 1, _PAGE)
    while True:
        page = await client.call(
            "get_messages", stream=stream, order="desc", limit=wanted, **filters, **before
        )
        place = place or {"epoch": page["epoch"], "seq": page["last_seq"]}
        found += page["items"]
        is_enough = wish.last is not None and view.count(found[::-1]) >= wish.last
        if page["next"] is None or is_enough:
            return found[::-1], place
        before = {"before": page["next"]}
        wanted = min(max(len(found), wanted), _PAGE)


async def _follow(client: Client, wish: Wish, view: View, positions: dict[str, Any]) -> None:
    streams = [f"project:{name}" for name in wish.projects] or ["*"]
    since: Any = {"positions": positions}
    if len(streams) == 1 and streams != ["*"]:
        since = next(iter(positions.values()))
    elif not positions:
        since = "now"
    async with client.subscribe(streams, since=since) as subscription:
        async for item in subscription.items():
            if isinstance(item, Notice):
                _tell(item, view)
                continue
            if not _matches(item, wish):
                continue
            view.show(item)
            if wish.execution and item["type"] == "execution.ended":
                return


def _tell(notice: Notice, view: View) -> None:
    words = {
        "disconnected": "the daemon is gone; waiting for it to come back",
        "reconnected": "connected again",
        "reset": "a part of the log is no longer kept; going on from what is left",
        "epoch_changed": "the log starts over: its history was lost or restored",
    }
    if text := words.get(notice.kind):
        view.note(text)


def _matches(event: Mapping[str, Any], wish: Wish) -> bool:
    if wish.execution and event.get("execution") != wish.execution:
        return False
    return not wish.grep or wish.grep in dump_plain(event)


def dump_plain(event: Mapping[str, Any]) -> str:
    """The event's text, as `--grep` sees it."""
    import json

    return json.dumps(event.get("data"), ensure_ascii=False)

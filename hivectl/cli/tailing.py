"""Read logs backward and follow them forward, without a gap between the two."""

from __future__ import annotations

import base64
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hivectl.cli import choosing, jsonline
from hivectl.cli.screen import PALETTE
from hivectl.cli.session import Session, all_items
from hivectl.cli.transcript import Line, Transcript
from hivectl.client.subscription import Notice
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

_PAGE = 1000
_EVENTS_A_LINE = 4
_EVENTS_MORE = 20


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

    def show(self, event: Mapping[str, Any]) -> None:
        """Print one event."""
        if self.raw:
            _write_raw(event)
        elif self.is_for_programs:
            self.hive.screen.result(jsonline.dump(event))
        else:
            self._show_to_people(event)

    def events_for(self, lines: int | None) -> int | None:
        """How many events to read for so many lines: people see only a part of them."""
        if lines is None or self.is_for_programs:
            return lines
        return lines * _EVENTS_A_LINE + _EVENTS_MORE if lines else 0

    @property
    def is_for_programs(self) -> bool:
        """Whether every event is printed as it is."""
        return self.raw or self.hive.options.output in {"json", "yaml", "name"}

    def show_past(self, events: Sequence[Mapping[str, Any]], last: int | None) -> None:
        """Print what was: every event, or for people the last lines."""
        if self.is_for_programs or last is None:
            for event in events:
                self.show(event)
            return
        shown: list[tuple[list[tuple[str, str]], Line]] = []
        for event in events:
            shown += [(self._prefix(event), item) for item in self._lines(event)]
        for prefix, item in shown[max(len(shown) - last, 0) :]:
            self.hive.screen.show(*prefix, *item.pieces, cut=item.is_single)

    def note(self, text: str) -> None:
        """Something about the following itself."""
        if not self.hive.is_json and not self.raw:
            self.hive.screen.note(("dim", text))

    def _show_to_people(self, event: Mapping[str, Any]) -> None:
        prefix = self._prefix(event)
        for item in self._lines(event):
            self.hive.screen.show(*prefix, *item.pieces, cut=item.is_single)

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
        name = self.names.get(project, project)
        color = PALETTE[zlib.crc32(name.encode("utf-8", "replace")) % len(PALETTE)]
        return [(color, f"{name} | ")]


def _write_raw(event: Mapping[str, Any]) -> None:
    """The line as Claude wrote it; events that are no line of Claude's are left out."""
    data = event.get("data") or {}
    if event.get("type") != "message" or data.get("kind") == "prompt":
        return
    if "raw_b64" in data:
        sys.stdout.flush()
        sys.stdout.buffer.write(base64.b64decode(data["raw_b64"]) + b"\n")
        sys.stdout.buffer.flush()
    elif "raw" in data:
        sys.stdout.write(jsonline.dump(data["raw"]) + "\n")
        sys.stdout.flush()


async def run(client: Client, wish: Wish, view: View) -> int:
    """Print what was, then what comes."""
    streams = [f"project:{name}" for name in wish.projects]
    if not streams:
        streams = [item["stream"] for item in await all_items(client, "project.list")]
    positions: dict[str, Any] = {}
    past: list[Mapping[str, Any]] = []
    for stream in streams:
        events, place = await _past(client, stream, wish, view.events_for(wish.last))
        past += events
        positions[stream] = place
    past.sort(key=lambda event: str(event["ts"]))
    view.show_past(past, wish.last)
    if wish.follow and not (wish.execution and _has_end(past, wish.execution)):
        await _follow(client, wish, view, positions)
    return 0


def _has_end(events: Sequence[Mapping[str, Any]], execution: str) -> bool:
    return any(
        event["type"] == "execution.ended" and event.get("execution") == execution
        for event in events
    )


async def _past(
    client: Client, stream: str, wish: Wish, last: int | None
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """The last events that match, oldest first, and the place to follow from."""
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
    while True:
        wanted = _PAGE if last is None else min(last - len(found), _PAGE)
        page = await client.call(
            "get_messages", stream=stream, order="desc", limit=max(wanted, 1), **filters, **before
        )
        place = place or {"epoch": page["epoch"], "seq": page["last_seq"]}
        found += page["items"][: max(wanted, 0)]
        is_enough = last is not None and len(found) >= last
        if page["next"] is None or is_enough:
            return found[::-1], place
        before = {"before": page["next"]}


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

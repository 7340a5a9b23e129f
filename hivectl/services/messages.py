"""Reading the log: pages of events, and the parts of a message too large for one."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec

from hivectl.journal import blobs, reader, scan
from hivectl.journal.record import Record
from hivectl.journal.scan import Filter, Page
from hivectl.journal.writer import StreamLog
from hivectl.kit.clock import parse_duration_s, parse_time_us
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.protocol import frames
from hivectl.services.house import Handler, House
from hivectl.services.projects import Projects

PAGE_BYTES = 4 * 1024 * 1024
"""Most bytes of events on one page; more are on the next."""
SCAN_RECORDS = 200_000
"""Most records one call looks at for a filtered page; the cursor goes on from there."""
HEAD_BYTES = 200
"""Where in a message's data its direction stands: before anything Claude said."""


class Messages:
    """Answers `get_messages`, `message.get` and `log.prune`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {"get_messages": self.page, "message.get": self.part, "log.prune": self.prune}

    async def stream_of(self, ref: str) -> str:
        """The home stream a project, or a stream's own name, stands for. Raises STREAM_NOT_FOUND."""
        if ref == "system":
            return ref
        name = ref.removeprefix("project:")
        if ref.startswith("project:") and ref in self._h.journal.streams():
            return ref  # also of a project that was deleted and not purged
        return (await self._projects.find(name)).stream

    async def page(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page of one stream, filtered, in either order."""
        if (p.project is None) == (p.stream is None):
            raise HiveError(
                "INVALID_PARAMS",
                "Give either project or stream.",
                details={"errors": [{"pointer": "/project"}]},
            )
        stream = await self.stream_of(p.project or p.stream)
        log = self._h.journal.open(stream)
        found = await asyncio.to_thread(self._read, log, p)
        return {
            "items": [
                msgspec.Raw(frames.event_object(stream, log.epoch, record))
                for record in found.records
            ],
            "next": None if found.is_end else found.position,
            "stream": stream,
            "epoch": log.epoch,
            "first_seq": log.first_seq,
            "last_seq": log.last_seq,
        }

    def _read(self, log: StreamLog, p: Any) -> Page:
        low, high = self._bounds(log, p)
        if low > high:
            return Page([], high, is_end=True, scanned=0)
        ends = (
            {"before": high + 1, "last": low}
            if p.order == "desc"
            else {"after": low - 1, "last": high}
        )
        return scan.scan(
            log,
            match=_filter(p),
            limit=p.limit,
            max_bytes=PAGE_BYTES,
            budget_lines=SCAN_RECORDS,
            **ends,
        )

    def _bounds(self, log: StreamLog, p: Any) -> tuple[int, int]:
        """First and last sequence number that may be on the page."""
        low = max(log.first_seq, (p.after or 0) + 1)
        high = min(log.last_seq, (p.before or log.last_seq + 1) - 1)
        if p.since is not None:
            low = max(low, reader.find_time(log, self._time(p.since, "since")))
        if p.until is not None:
            high = min(high, reader.find_time(log, self._time(p.until, "until") + 1) - 1)
        return low, high

    def _time(self, text: str, name: str) -> int:
        try:
            return self._h.clock.now_us() - int(parse_duration_s(text) * 1_000_000)
        except ValueError:
            pass
        try:
            return parse_time_us(text)
        except ValueError:
            raise HiveError(
                "INVALID_PARAMS", f"{name}: {excerpt(text, 80)!r} is neither a time such as 2026-01-31T08:00 nor an age such as 10m.",
                details={"errors": [{"pointer": f"/{name}"}]},
            ) from None  # fmt: skip

    async def part(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Some bytes of one event's raw line."""
        stream = await self.stream_of(p.stream)
        log = self._h.journal.open(stream)
        record = await asyncio.to_thread(reader.read_one, log, p.seq)
        if record is None:
            raise HiveError(
                "MESSAGE_NOT_FOUND",
                f"{stream} holds no event {p.seq}.",
                details={"first_seq": log.first_seq},
            )
        data = msgspec.json.decode(record.data)
        if "blob" in data:
            name, size = data["blob"], data["size"]
            try:
                found = await asyncio.to_thread(blobs.read_blob, log, name, p.offset, p.limit)
            except FileNotFoundError:
                raise HiveError(
                    "MESSAGE_NOT_FOUND", "The message's bytes are no longer kept."
                ) from None
        else:
            whole = _raw_of(data, record)
            size, found = len(whole), whole[p.offset : p.offset + p.limit]
        end = p.offset + len(found)
        return {
            "stream": stream,
            "seq": p.seq,
            "offset": p.offset,
            "size": size,
            "data_b64": base64.b64encode(found).decode(),
            "next_offset": end if end < size else None,
        }

    async def prune(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Drop old segments now."""
        streams = [await self.stream_of(p.project)] if p.project else self._h.journal.streams()
        freed = {
            stream: self._h.journal.prune(
                stream, most_bytes=p.keep_bytes, most_age_s=p.older_than_s, is_trial=p.dry_run
            )
            for stream in streams
        }
        freed = {stream: size for stream, size in freed.items() if size}
        return {"freed_bytes": sum(freed.values()), "streams": freed, "dry_run": p.dry_run}


class _Raw(msgspec.Struct):
    raw: msgspec.Raw = msgspec.Raw(b"")


def _raw_of(data: dict[str, Any], record: Record) -> bytes:
    if "raw_b64" in data:
        return base64.b64decode(data["raw_b64"])
    raw = bytes(msgspec.json.decode(record.data, type=_Raw).raw)
    return raw or bytes(record.data)


def _filter(p: Any) -> Filter:
    mark = f'"direction":"{p.direction}"'.encode()
    return Filter(
        types=tuple(p.types or ()),
        execution=p.execution,
        session=p.session,
        grep=p.grep or "",
        where=None
        if p.direction is None
        else lambda r: r.type == "message" and mark in bytes(r.data)[:HEAD_BYTES],
    )

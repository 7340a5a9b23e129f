"""The line format of the journal: what a record is, and how its bytes are made and read.

A line is one JSON object. The caller's `data` is spliced in unchanged, never decoded and encoded again,
and stands last, so that the envelope can be read without touching it. Lines that start with `{"hdr":`
are snapshots of the writer's state; they are no records and have no sequence number.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import msgspec

FORMAT_VERSION = 1
HEADER_PREFIX = b'{"hdr":'
_SEQ_START = len(b'{"seq":')
_CACHED_ENVELOPES = 512
_ENVELOPE = re.compile(rb'\{"seq":\d+,"ts":(\d+),')


class Source(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a record was read from: what makes ingestion exactly-once."""

    process: str
    spool: str
    """`o` for standard output, `e` for standard error."""
    end: int
    """Offset in the spool after the bytes of this record."""


class Record(msgspec.Struct, omit_defaults=True, frozen=True):
    """One line on disk."""

    seq: int
    ts: int
    """Microseconds since the epoch."""
    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    execution: str | None = None
    session: str | None = None
    request: str | None = None
    actor: str | None = None
    ob: int = 0
    """Outbox id of the state change this record tells of; 0 = none."""
    src: Source | None = None


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record that has no number yet.

    `data` must be one JSON object in valid UTF-8 without a line break; it is written as it is."""

    type: str
    data: bytes
    ts: int
    execution: str | None = None
    session: str | None = None
    request: str | None = None
    actor: str | None = None
    ob: int = 0
    src: Source | None = None

    def numbered(self, seq: int) -> Record:
        """The record it becomes."""
        return Record(
            seq,
            self.ts,
            self.type,
            msgspec.Raw(self.data),
            self.execution,
            self.session,
            self.request,
            self.actor,
            self.ob,
            self.src,
        )


class Lines(msgspec.Struct, frozen=True, gc=False):
    """Records of one spool that were read together: they differ in data and offset alone.

    What follows is for each line of output: so there is no object for a line, only its bytes."""

    type: str
    ts: int
    execution: str | None
    session: str | None
    process: str
    spool: str
    data: list[bytes]
    """As the `data` of a Draft."""
    ends: list[int]
    """As many: offset in the spool after each."""


Entry = Draft | Lines
"""What is appended."""


def count_of(entries: Sequence[Entry]) -> int:
    """How many records they are."""
    return sum(len(entry.data) if isinstance(entry, Lines) else 1 for entry in entries)


def bytes_of(entries: Sequence[Entry]) -> int:
    """How many bytes their data has."""
    return sum(
        sum(map(len, entry.data)) if isinstance(entry, Lines) else len(entry.data)
        for entry in entries
    )


class Header(msgspec.Struct, omit_defaults=True, frozen=True):
    """The writer's state after record `seq`: first line of each segment, repeated within it."""

    v: int
    stream: str
    epoch: str
    boot: str
    seq: int
    """Last record before this line; 0 = none."""
    ts: int
    """When this line was written, microseconds."""
    top: int = 0
    """Highest `ts` of any record so far: what makes searching by time exact when the clock jumped."""
    ob: int = 0
    src: tuple[Source, ...] = ()
    closed: bool = False
    """Written by an orderly close, as the last line."""


class _HeaderLine(msgspec.Struct, frozen=True):
    hdr: msgspec.Raw
    crc: int


_records = msgspec.json.Decoder(Record)
_header_lines = msgspec.json.Decoder(_HeaderLine)
_headers = msgspec.json.Decoder(Header)
_encoder = msgspec.json.Encoder()


def decode_record(line: bytes) -> Record:
    """The record of a line, without its line break. Raises ValueError."""
    try:
        return _records.decode(line)
    except RecursionError:
        # `data` is nested too deep to be looked through. The envelope cannot hold `"data":` itself:
        # quotes in its strings are escaped.
        envelope, key, data = line.partition(b'"data":')
        found = _records.decode(envelope + key + b"{}}")
        return msgspec.structs.replace(found, data=msgspec.Raw(data[:-1]))


def decode_header(line: bytes) -> Header:
    """The snapshot of a line. Raises ValueError, also when its checksum does not fit."""
    try:
        parsed = _header_lines.decode(line)
    except RecursionError:
        raise ValueError("snapshot is damaged") from None
    if zlib.crc32(parsed.hdr) != parsed.crc:
        raise ValueError("snapshot is damaged")
    return _headers.decode(parsed.hdr)


def encode_header(header: Header) -> bytes:
    """The line of a snapshot, with its line break."""
    body = _encoder.encode(header)
    return b'%b%b,"crc":%d}\n' % (HEADER_PREFIX, body, zlib.crc32(body))


def is_header(line: bytes) -> bool:
    """Whether the line is a snapshot and no record."""
    return line.startswith(HEADER_PREFIX)


def seq_of(line: bytes) -> int:
    """The number of a record's line, read without decoding it; 0 when it is no record."""
    if not line.startswith(b'{"seq":'):
        return 0
    digits = line[_SEQ_START : line.find(b",", _SEQ_START, _SEQ_START + 24)]
    return int(digits) if digits.isdigit() else 0


def ts_of(line: bytes) -> int:
    """The time of a record's line, read without decoding it; -1 when it is no record."""
    found = _ENVELOPE.match(line)
    return int(found[1]) if found else -1


def is_record(line: bytes) -> bool:
    """Whether the line can be read to its last character."""
    try:
        line.decode()  # the decoder does not look at the characters of what it skips
        decode_record(line)
    except ValueError:
        return False
    return True


class Batch(msgspec.Struct):
    """Lines of one append (without line breaks), and what they change in the writer's state."""

    lines: list[bytes]
    top: int
    """Highest ts of the entries."""
    outbox: int
    sources: list[Source]
    """In order: a later one of a spool stands behind its earlier ones."""


class LineBuilder:
    """Makes lines of entries; what repeats from record to record is encoded once."""

    def __init__(self) -> None:
        self._envelopes: dict[tuple[str | None, ...], bytes] = {}

    def build(self, entries: Sequence[Entry], seq: int) -> Batch:
        """The lines of `entries`, numbered from `seq` on."""
        batch = Batch([], 0, 0, [])
        lines = batch.lines
        for entry in entries:
            batch.top = max(batch.top, entry.ts)
            if isinstance(entry, Lines):
                if entry.data:
                    lines += self._lines(entry, seq + len(lines))
                    batch.sources.append(Source(entry.process, entry.spool, entry.ends[-1]))
                continue
            lines.append(self._line(entry, seq + len(lines)))
            batch.outbox = max(batch.outbox, entry.ob)
            if entry.src is not None:
                batch.sources.append(entry.src)
        return batch

    def _lines(self, entry: Lines, seq: int) -> list[bytes]:
        """The one loop over lines of output: a format for all of them, nothing but formatting for each."""
        key = (entry.type, entry.execution, entry.session, None, None, entry.process, entry.spool)
        envelope = self._envelope(key).replace(b"%", b"%%")
        form = b'{"seq":%%d,"ts":%d,%b%%d],"data":%%b}' % (entry.ts, envelope)
        numbers = range(seq, seq + len(entry.data))
        return [form % each for each in zip(numbers, entry.ends, entry.data, strict=True)]

    def _line(self, draft: Draft, seq: int) -> bytes:
        src = draft.src
        key: tuple[str | None, ...]
        key = (draft.type, draft.execution, draft.session, draft.request, draft.actor)
        end = b""
        if src is not None:
            key = (*key, src.process, src.spool)
            end = b"%d]," % src.end
        outbox = b'"ob":%d,' % draft.ob if draft.ob else b""
        envelope = self._envelope(key)
        return b'{"seq":%d,"ts":%d,%b%b%b"data":%b}' % (
            seq, draft.ts, outbox, envelope, end, draft.data
        )  # fmt: skip

    def _envelope(self, key: tuple[str | None, ...]) -> bytes:
        known = self._envelopes.get(key)
        if known is not None:
            return known
        parts = [
            b'"%b":%b,' % (name, _encoder.encode(value))
            for name, value in zip(
                (b"type", b"execution", b"session", b"request", b"actor"), key, strict=False
            )
            if value is not None
        ]
        if len(key) > 5:
            parts.append(b'"src":[%b,%b,' % (_encoder.encode(key[5]), _encoder.encode(key[6])))
        envelope = b"".join(parts)
        if len(self._envelopes) >= _CACHED_ENVELOPES:
            self._envelopes.clear()
        self._envelopes[key] = envelope
        return envelope

"""What can be fuzzed: each target takes bytes and raises when a promise is broken.

A target is a plain function, so the same is run by hypothesis in `make test` and by atheris in `make fuzz`.
Inputs that once failed lie in `corpus/<target>/` and are run again by both.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import journal as log
from tests.fuzz import wire
from tests.fuzz.decoder import decoder
from tests.fuzz.journal import journal
from tests.fuzz.stream import stream
from tests.fuzz.texts import rules, sanitiser, settings
from tests.fuzz.wire import frames, http

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
_RECORDINGS = HERE.parents[1] / "tests" / "fixtures" / "claude" / "recordings.jsonl"

TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": decoder,
    "frames": frames,
    "http": http,
    "stream": stream,
    "journal": journal,
    "sanitiser": sanitiser,
    "settings": settings,
    "rules": rules,
}

_CALL = b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"streams":["*"],"since":"start"}}'
_RPC = (
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d"
    b"\r\n\r\n%b"
)
_PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}'


def clean_up() -> None:
    """End what targets keep between runs."""
    wire.clean_up()
    log.clean_up()


def seeds(target: str) -> list[bytes]:
    """Inputs to begin with: plain ones, and those that were found."""
    return [*_plain_seeds(target), *(path.read_bytes() for path in found(target))]


def found(target: str) -> list[Path]:
    """Inputs that once broke a promise."""
    return sorted((CORPUS / target).glob("*"))


def _plain_seeds(target: str) -> list[bytes]:
    frame = base64.b64decode("gYAAAAAA")
    plain: dict[str, list[bytes]] = {
        "decoder": [
            _CALL,
            b'{"a":{"b":[1,-2.5e3,null,true,"\\ud83d\\ude00 \\"x\\\\"]},"c":9007199254740993}',
            b'{"a":1,"a":2}',
            b'{"a":1E400,"b":-0,"c":"\\ud800"}',
            b"[" * 70 + b"]" * 70,
        ],
        "frames": [
            b"\x01"
            + _CALL
            + b"\n"
            + _PING
            + b'\n{"jsonrpc":"2.0","method":"$/cancel","params":{"id":1}}',
            b'\x01{"jsonrpc":"2.0","id":2,"method":"tail","params":{"last":2}}\n{"jsonrpc":"2.0","id":3,"method":"unsubscribe","params":{"sub":"s1"}}',
            b'\x01{"jsonrpc":"2.0","id":"x","method":"project.join","params":{"project":"web"}}\n{"jsonrpc":"2.0","id":4,"method":"execute","params":{"project":"web","prompt":"x"}}',
            b"\x06" + frame + b"\x89\x80\x00\x00\x00\x00\x88\x82\x00\x00\x00\x00\x03\xe8",
            b"\x02\x01\x81\x00\x00\x00\x00{\x80\x81\x00\x00\x00\x00}\xff\xff\x00\x00\x01\x00\x00\x00\x00\x00",
        ],
        "http": [
            b"\xff" + _RPC % (len(_PING), _PING),
            b"\x20" + _RPC % (len(_CALL), _CALL) + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x80GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            b'\x40POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n4\r\n{"a"\r\n0\r\n\r\n',
            b"\x40OPTIONS * HTTP/1.1\r\nOrigin: null\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
        ],
        "stream": _stream_seeds(),
        "journal": [
            b"\x00" + bytes([0, 9, 0, 0, 0, 0]),
            b"\x00" + bytes([4, 8, 100, 0, 7, 0]),
            b"\x01" + bytes([2, 0, 40, 8, 0, 0, 3, 0, 3, 9, 9, 9]),
            b"\x02" + bytes([1, 3, 0, 200, 0, 0]),
            b"\x00" + bytes([5, 255, 255, 0, 0, 0]) + b'{"seq":61,"ts":1,"type":"x","data":{}}\n',
        ],
        "sanitiser": [
            "a\x1b[31mb\x1b]0;t\x07c\x9b1;2H\u202e\r\n\x1bPq\x1b\\".encode(),
            b"\x1b]8;;http://x\x1b\\\x1b[?1049h\x9d0;x\x9c\x90\x1b[c\x1b[6n",
            b"\xed\xa0\x80 \xf3\xa0\x81\x81 \xe2\x80\x8b",
        ],
        "settings": [
            b'[claude]\nbin = "mock"\nenv = {A = "b"}\n[limits]\nconnections = 5\nheld_bytes = "64K"\n',
            b'[listen]\ntcp = "off"\nallowed_hosts = ["a:1"]\n[usage]\nprices = {x = "1/2"}\n',
            b'x = 1\n[approval]\ntimeout_s = "10m"\non_timeout = "deny"\n[notify]\ntargets = []\n',
        ],
        "rules": [
            b"\x00Bash\0git *\0Bash\0git status",
            b"\x01Edit\0src/**\0Edit\0src/a/b.py",
            b"\x02WebFetch\0https://*.python.org/*\0WebFetch\0https://docs.python.org/3/",
            b"\x03mcp__x__*\0a?c\\*\0mcp__x__y\0abc*",
        ],
    }
    return plain[target]


def _stream_seeds() -> list[bytes]:
    """The shortest recorded line of each type and subtype."""
    shortest: dict[tuple[str, str], bytes] = {}
    for line in _RECORDINGS.read_bytes().splitlines():
        event = json.loads(line)
        key = (str(event.get("type")), str(event.get("subtype", event.get("request")))[:30])
        if "type" in event and len(line) < len(shortest.get(key, b"x" * 4000)):
            shortest[key] = line
    lines = sorted(shortest.values(), key=len)
    return [b"\x07\x00" + line + b"\n" for line in lines] + [b"\x03\x01" + b"\n".join(lines[:6])]

"""Many viewers in one process, quick enough not to be what is measured: `python -m benchmarks.audience ...`.

    KIND SOCKET VIEWERS STALLED STREAM END

Connects VIEWERS that read and STALLED that never do (KIND hivectl: logged in and following STREAM), prints a line
`ready`, counts what comes as `"seq":` in the bytes, and ends when every reading viewer has seen the text END. Prints
one JSON object: seconds on the monotonic clock when the first viewer saw a line of Claude's and when the last one
saw the end, events of each viewer, and the first and last number it saw.
"""

from __future__ import annotations

import json
import re
import select
import sys
import time
from pathlib import Path

from benchmarks import viewers

MARK = b'"seq":'
START = b'"type":"assistant"'
_SEQ = re.compile(rb'"seq":(\d+)')
_KEPT = 40


class Seat:
    """One reading viewer."""

    def __init__(self, viewer: viewers.Viewer) -> None:
        self.viewer = viewer
        self.events = 0
        self.first = self.last = 0
        self.has_begun = False
        self._rest = b""
        viewer.socket.settimeout(0)

    def read(self, buffer: bytearray, end: bytes) -> bool:
        """Take what is there; True when the end has come."""
        size = self.viewer.socket.recv_into(buffer)
        if not size:
            raise ConnectionError("a viewer was disconnected")
        data = self._rest + memoryview(buffer)[:size]
        at = data.find(end)
        if is_over := at >= 0:
            data = data[
                : at + len(end)
            ]  # what follows it is waited for by nobody: some have it, some not
        cut = data.rfind(MARK)
        self.events += data.count(MARK)
        self.has_begun = self.has_begun or START in data
        # A number at the very end may be cut: it is counted with the next bytes.
        self._rest = data[max(len(data) - _KEPT, 0) :]
        self.events -= self._rest.count(MARK)
        if cut >= 0 and (found := _SEQ.match(data, cut)):
            self.last = max(self.last, int(found[1]))
        if not self.first and (found := _SEQ.search(data)):
            self.first = int(found[1])
        if is_over:
            self.events += self._rest.count(MARK)
        return is_over


def seat(kind: str, path: Path, stream: str) -> viewers.Viewer:
    if kind != "hivectl":
        return viewers.Viewer(path)
    viewer = viewers.log_in(path)
    viewers.ask(viewer, "subscribe", {"streams": [stream], "since": "now"})
    while viewer.receive().get("method") != "caught_up":
        continue
    return viewer


def main(kind: str, where: str, count: str, stalled: str, stream: str, end: str) -> None:
    path = Path(where)
    seats = [Seat(seat(kind, path, stream)) for _ in range(int(count))]
    deaf = [seat(kind, path, stream) for _ in range(int(stalled))]
    print("ready", flush=True)
    poll = select.epoll()
    waiting = {one.viewer.socket.fileno(): one for one in seats}
    for fd in waiting:
        poll.register(fd, select.EPOLLIN)
    buffer = bytearray(1 << 18)
    first = last = 0.0
    while waiting:
        for fd, _ in poll.poll():
            one = waiting[fd]
            if one.read(buffer, end.encode()):
                poll.unregister(fd)
                del waiting[fd]
            if not first and one.has_begun:
                first = time.perf_counter()
    last = time.perf_counter()
    found = {
        "first_s": first,
        "last_s": last,
        "events": [one.events for one in seats],
        "seqs": [(one.first, one.last) for one in seats],
    }
    print(json.dumps(found), flush=True)
    for viewer in deaf:
        viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

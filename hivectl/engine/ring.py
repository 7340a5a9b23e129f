"""The newest frames of one followed stream: encoded once for all, dense, bounded by count and by bytes."""

from __future__ import annotations

import msgspec


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One event, encoded as the WebSocket frame every receiver gets."""

    seq: int
    type: str
    execution: str | None
    wire: bytes


class Ring:
    """Ends at `last`; what lies before its first frame is in the log only."""

    __slots__ = ("_frames", "asked", "last", "size_bytes", "unseen_bytes")

    def __init__(self, last: int) -> None:
        self._frames: list[Frame] = []
        self.last = last
        self.asked = last
        """Where it ended when it was last asked for a page."""
        self.size_bytes = 0
        self.unseen_bytes = 0
        """Bytes of frames that came since then."""

    def extend(self, frames: list[Frame]) -> None:
        """Add what follows. What does not follow `last` without a gap begins the ring anew."""
        if frames[0].seq != self.last + 1:
            self.restart(frames[0].seq - 1)
        self._frames += frames
        self.last = frames[-1].seq
        added = sum([len(frame.wire) for frame in frames])
        self.size_bytes += added
        self.unseen_bytes += added

    def restart(self, last: int) -> None:
        """Forget all; what comes next follows `last`."""
        self._frames.clear()
        self.size_bytes = 0
        self.last = last

    def trim(self, max_frames: int, max_bytes: int) -> None:
        """Drop the oldest frames beyond the bounds."""
        count = max(0, len(self._frames) - max_frames)
        size = self.size_bytes - sum([len(frame.wire) for frame in self._frames[:count]])
        while size > max_bytes:
            size -= len(self._frames[count].wire)
            count += 1
        del self._frames[:count]
        self.size_bytes = size

    def page(self, after: int, max_frames: int, max_bytes: int) -> list[Frame] | None:
        """Frames after `after`, possibly none; None when it does not reach back so far.

        At least one, however large, when there is one."""
        self.asked = self.last
        self.unseen_bytes = 0
        start = after - (self.last - len(self._frames))
        if start < 0:
            return None
        found = self._frames[start : start + max_frames]
        for count, frame in enumerate(found):
            max_bytes -= len(frame.wire)
            if max_bytes < 0:
                return found[: max(1, count)]
        return found

"""What a follower has seen: one position a home stream, and the rule that shows nothing twice.

Pure: no socket, no clock. The wire promises at least once; `Cursor.admit` makes it exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VIEWS = frozenset({"*", "inbox", "queue"})


class Cursor:
    """Positions of the streams a subscription follows.

    A position only moves forward within an epoch; another epoch replaces it, because the history it
    counted in is gone.
    """

    def __init__(self, streams: list[str], since: Any) -> None:
        """`since` is where the first subscription starts, in the wire's form."""
        self._streams = streams
        self._since = since
        self.positions: dict[str, tuple[str, int]] = {}

    def admit(self, event: Mapping[str, Any]) -> bool:
        """Whether this event is new; remembers it if so. Events without `seq` are ephemeral and pass."""
        seq = event.get("seq")
        if seq is None:
            return True
        stream, epoch = event["stream"], event["epoch"]
        known = self.positions.get(stream)
        if known is not None and known[0] == epoch and seq <= known[1]:
            return False
        self.positions[stream] = (epoch, seq)
        return True

    def is_new_epoch(self, event: Mapping[str, Any]) -> bool:
        """Whether the event counts in another epoch than what was seen of its stream before."""
        known = self.positions.get(event.get("stream", ""))
        return known is not None and "seq" in event and known[0] != event["epoch"]

    def start_at(self, positions: Mapping[str, Mapping[str, Any]]) -> None:
        """Note where a fresh subscription begins: for streams of which nothing was seen yet."""
        for stream, place in positions.items():
            self.positions.setdefault(stream, (place["epoch"], place["seq"]))

    def advance(self, positions: Mapping[str, Mapping[str, Any]]) -> None:
        """Everything up to here was shown or filtered out by the server."""
        for stream, place in positions.items():
            epoch, seq = place["epoch"], place["seq"]
            known = self.positions.get(stream)
            if known is None or known[0] != epoch or seq > known[1]:
                self.positions[stream] = (epoch, seq)

    def replace(self, positions: Mapping[str, Mapping[str, Any]]) -> None:
        """The server says the place is gone: go on from here, whatever was seen."""
        for stream, place in positions.items():
            self.positions[stream] = (place["epoch"], place["seq"])

    def forget(self) -> None:
        """Start over from the oldest that is kept."""
        self.positions.clear()
        self._since = "start"

    def since(self) -> Any:
        """What to ask for now: the first wish, or right after what was seen."""
        if not self.positions:
            return self._since
        if len(self.positions) == 1 and len(self._streams) == 1 and self._streams[0] not in VIEWS:
            ((epoch, seq),) = self.positions.values()
            return {"epoch": epoch, "seq": seq}
        return {
            "positions": {
                stream: {"epoch": epoch, "seq": seq}
                for stream, (epoch, seq) in self.positions.items()
            }
        }

"""Figures of messages that were read and are not stored yet: kept for a moment, so that a flood of messages
does not cost a commit for each look at the spool.

The rule: whatever else follows from the output (a result, a question, a request, an error) is stored
at once, with all figures before it. Figures alone wait at most FIGURES_S, fewer than FIGURES_MAX of them, and
never while more than REREAD_BYTES of output were read since the last commit. A crash meanwhile loses
none: the store knows up to where the output has had its effects, and the next daemon reads on from there.
"""

from __future__ import annotations

from hivectl.kit.clock import Clock
from hivectl.ports import UsageSeen

FIGURES_S = 0.5
"""How long figures may wait: so much later than it was said a budget may be found used up."""
FIGURES_MAX = 1000
REREAD_BYTES = 4 * 1024 * 1024
"""How much output a restart has to read again for its figures."""


class Tally:
    """What waits, and since when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[int, UsageSeen]] = []
        self._due = 0.0
        self.stored = 0
        """Offset in the output up to which effects are stored."""

    def add(self, end: int, figures: UsageSeen) -> None:
        """Keep the figures of lines up to `end`; those that are stored already are not counted again."""
        if end <= self.stored:
            return
        if not self._waiting:
            self._due = self._clock.monotonic() + FIGURES_S
        self._waiting.append((end, figures))

    def is_due(self, at: int) -> bool:
        """Whether to store now, with the output read up to `at`."""
        return (
            at - self.stored > REREAD_BYTES
            or len(self._waiting) >= FIGURES_MAX
            or (bool(self._waiting) and self._clock.monotonic() >= self._due)
        )

    def patience_s(self, longest: float) -> float:
        """How long may be waited for more output."""
        if not self._waiting:
            return longest
        return min(longest, max(0.0, self._due - self._clock.monotonic()))

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return not self._waiting

    def take(self) -> list[tuple[int, UsageSeen]]:
        """All that waits, in order of the output; whoever takes it stores it."""
        waiting, self._waiting = self._waiting, []
        return waiting

"""What a long test needs: how much of the full size is wanted, and a place for what it found out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

SCALE = float(os.environ.get("HIVECTL_SOAK_SCALE", "1"))
"""1 is the full size; `make soak SCALE=0.01` tries whether all of it works."""


def full(count: int, *, least: int = 1) -> int:
    """So many of `count` as the scale asks for."""
    return max(least, min(count, round(count * SCALE)))


@dataclass
class Report:
    """What one test tried and measured. A figure beyond its limit is for the runner to judge: nothing was lost."""

    test: str
    tried: dict[str, int] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """So many more of these were tried; what a test lost is an assertion of its own."""
        self.tried[what] = self.tried.get(what, 0) + number

    def figure(
        self, what: str, value: float, unit: str, *, most: float | None = None, least: float = 0
    ) -> None:
        """A measured value; limits hold at the full size, on a machine with nothing else to do."""
        self.figures[what] = f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:,.0f} {unit}"
        print(f"{what}: {self.figures[what]}")
        if (most is not None and value > most) or value < least:
            wanted = f"at most {most:g}" if most is not None else f"at least {least:g}"
            self.missed.append(f"{what}: {self.figures[what]}, promised is {wanted} {unit}")

    def close(self, outcome: str) -> None:
        """Write it down for the runner, if it is there."""
        reports = os.environ.get("HIVECTL_SOAK_REPORTS")
        if reports:
            facts = {
                "test": self.test, "outcome": outcome, "tried": self.tried,
                "figures": self.figures, "missed": self.missed,
            }  # fmt: skip
            with Path(reports).open("a") as file:
                file.write(json.dumps(facts) + "\n")

"""Figures of interleaved rounds: collected, compared pair by pair, printed as text and kept as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import references
from hivectl.kit.clock import SystemClock, format_us

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "hivectl",
    "aiosqlite",
    "msgspec",
    "starlette",
    "typer",
    "uvicorn",
    "websockets",
)


@dataclass(frozen=True)
class Ratio:
    """What is to be compared: `ours` divided by `reference`, round by round."""

    ours: str
    reference: str
    target: str = ""


class Report:
    """One command's figures. Every round adds one figure to each series."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.series: dict[str, list[float]] = {}
        self.units: dict[str, str] = {}
        self.ratios: list[Ratio] = []
        self.notes: list[str] = []

    def add(self, series: str, figure: float, unit: str) -> None:
        self.series.setdefault(series, []).append(figure)
        self.units[series] = unit

    def compare(self, ours: str, reference: str, target: str = "") -> None:
        """Show the ratio of two series that were measured in the same rounds."""
        self.ratios.append(Ratio(ours, reference, target))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def pairs(self, ratio: Ratio) -> list[float]:
        """The ratios of all rounds; empty when one side was not measured."""
        ours, reference = self.series.get(ratio.ours, []), self.series.get(ratio.reference, [])
        return [a / b for a, b in zip(ours, reference, strict=False) if b]

    def render(self) -> str:
        lines = [self.title]
        width = max(map(len, self.series), default=0)
        for name, figures in self.series.items():
            middle, unit = statistics.median(figures), self.units[name]
            span = f"({_show(min(figures))} to {_show(max(figures))})"
            lines.append(f"  {name:{width}}  {_show(middle):>9} {unit:11} {span}")
        lines += [
            self._describe(ratio, pairs) for ratio in self.ratios if (pairs := self.pairs(ratio))
        ]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    @staticmethod
    def _describe(ratio: Ratio, pairs: list[float]) -> str:
        middle, low, high = statistics.median(pairs), min(pairs), max(pairs)
        target = f", target {ratio.target}" if ratio.target else ""
        return (
            f"  {ratio.ours} / {ratio.reference}: {middle:.3g}x ({low:.3g} to {high:.3g}){target}"
        )

    def document(self) -> dict[str, Any]:
        compared = [(ratio, self.pairs(ratio)) for ratio in self.ratios]
        return {
            "benchmark": self.name,
            "title": self.title,
            "machine": machine(),
            "series": [
                {
                    "name": name,
                    "unit": self.units[name],
                    "median": statistics.median(figures),
                    "min": min(figures),
                    "max": max(figures),
                    "rounds": figures,
                }
                for name, figures in self.series.items()
            ],
            "ratios": [
                {
                    "ours": ratio.ours,
                    "reference": ratio.reference,
                    "target": ratio.target,
                    "median": statistics.median(pairs),
                    "min": min(pairs),
                    "max": max(pairs),
                    "rounds": pairs,
                }
                for ratio, pairs in compared
                if pairs
            ],
            "notes": self.notes,
        }


def _show(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions |= references.versions()
    return {
        "date": format_us(SystemClock().now_us()),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "versions": versions,
    }


@dataclass(frozen=True)
class Options:
    """What every command takes."""

    rounds: int
    is_quick: bool
    given: argparse.Namespace


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options that every command has."""
    made = argparse.ArgumentParser(description=(description or "").split("\n", maxsplit=1)[0])
    made.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    made.add_argument("--quick", action="store_true", help="smaller sizes, still all rounds")
    made.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures to this file"
    )
    return made


def parse(made: argparse.ArgumentParser, argv: Sequence[str] | None) -> Options:
    given = made.parse_args(argv)
    return Options(rounds=max(1, given.rounds), is_quick=given.quick, given=given)


def finish(report: Report, options: Options) -> Report:
    """Print, and write the JSON file: the one asked for, else in `benchmarks/results`."""
    print(report.render(), flush=True)
    path: Path = options.given.json or RESULTS / f"{report.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report.document(), indent=1) + "\n")
    return report


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)

"""What each metric should reach: the one table of it. What was measured is compared with it in the summary and the docs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """One figure of one benchmark, by itself or as a ratio to a reference of the same rounds."""

    metric: str
    benchmark: str
    ours: str
    """A series of the benchmark's results."""
    reference: str = ""
    """Another one: the ratio counts, round by round. Empty: the figure itself."""
    most: float | None = None
    least: float | None = None

    @property
    def wanted(self) -> str:
        sign, limit = ("<=", self.most) if self.most is not None else (">=", self.least)
        return f"{sign} {show(limit or 0.0)}{'x' if self.reference else ''}"

    def is_met(self, figure: float) -> bool:
        return (self.most is None or figure <= self.most) and (
            self.least is None or figure >= self.least
        )


@dataclass(frozen=True)
class Verdict:
    """What was measured of a target."""

    target: Target
    figures: tuple[float, ...]
    """Of each round; empty: it, or its reference, was not measured."""
    unit: str

    @property
    def word(self) -> str:
        if not self.figures:
            return "not measured"
        return "met" if self.target.is_met(statistics.median(self.figures)) else "missed"

    @property
    def measured(self) -> str:
        """Median, and least and most."""
        if not self.figures:
            return ""
        low, high = show(min(self.figures)), show(max(self.figures))
        return f"{show(statistics.median(self.figures))}{self.unit} ({low} to {high})"


def show(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"


def judge(target: Target, document: Mapping[str, Any] | None) -> Verdict:
    """With the results of its benchmark, or none."""
    series = {one["name"]: one for one in (document or {}).get("series", [])}
    ours, reference = series.get(target.ours), series.get(target.reference)
    if ours is None or (target.reference and reference is None):
        return Verdict(target, (), "")
    if reference is None:
        return Verdict(target, tuple(ours["rounds"]), f" {ours['unit']}")
    pairs = zip(ours["rounds"], reference["rounds"], strict=False)
    return Verdict(target, tuple(a / b for a, b in pairs if b), "x")


def _fanout(viewers: int, what: str, name: str) -> str:
    return f"{name}, {viewers} viewers, {what}"


def _many(viewers: int, what: str, reference: str, **limit: float) -> Target:
    ours = _fanout(viewers, what, "hivectl")
    theirs = _fanout(viewers, what, reference)
    return Target("1" if viewers == 100 else "2", "fanout", ours, theirs, **limit)


def _lone(rate: str, what: str, most: float) -> Target:
    return Target(
        "5", "one_viewer", f"{rate}/s, hivectl, {what}", f"{rate}/s, claude-code-ui, {what}", most
    )


LONE = "one Python viewer"
TARGETS = (
    _many(100, "deliveries", "nats-server", least=1.5),
    _many(100, "deliveries", "C write loop", least=6),
    _many(100, "deliveries", "websockets.broadcast", least=10),
    _many(1000, "deliveries", "nats-server", least=1),
    _many(1000, "CPU", "nats-server", most=0.3),
    Target("2", "fanout", _fanout(1000, "connect p50", "hivectl"), most=0.5),
    Target("2", "fanout", _fanout(1000, "connect p99", "hivectl"), most=2),
    Target("3", "broadcast", "hivectl, p50", "C write loop, p50", 1.3),
    Target("3", "broadcast", "hivectl, p99", "C write loop, p99", 1.4),
    Target("3", "broadcast", "hivectl, p99", "nats-server, p99", 1),
    Target("4", "agents", "hivectl, p99", "obvious daemon, p99", 0.2),
    Target("4", "agents", "hivectl, CPU", "obvious daemon, CPU", 0.35),
    Target("4", "agents", "hivectl, p50", most=3),
    Target("4", "agents", "hivectl, p99", most=10),
    _lone("1,000", "p50", 0.9),
    _lone("1,000", "p99", 0.15),
    _lone("1,000", "CPU", 0.35),
    _lone("10,000", "p50", 0.4),
    _lone("10,000", "p99", 0.15),
    Target("6", "flat_out", "hivectl", "TypeScript SDK", least=0.8),
    Target("6", "flat_out", "hivectl", "obvious daemon", least=8),
    Target("6", "flat_out", f"hivectl, {LONE}", f"claude-code-ui, {LONE}", least=2),
    Target("7", "ingest", "hivectl, pipe", "Python SDK", least=3.5),
    Target("7", "ingest", "hivectl, pipe, CPU", most=4.5),
    Target("8", "first_event", "hivectl's own part", most=40),
    Target("8", "warm", "warm, first event", "cold with the real start", 0.1),
    *(
        Target("9", "cli", f"hivectl {name}", reference, most)
        for name in ("ps", "health", "exec --detach", "kill")
        for reference, most in (("python -c pass", 2.5), ("Typer hello", 0.25))
    ),
    Target("10", "start", "hivectl, again", most=250),
    Target("10", "start", "hivectl, again", "claude-code-ui", 0.65),
    Target("10", "start", "hivectl, again", "FastAPI hello", 0.65),
    Target("11", "idle", "hivectl, RSS", "claude-code-ui, RSS", 0.45),
    Target("11", "idle", "hivectl, a viewer", "websockets, a viewer", 0.6),
    Target("11", "idle", "hivectl, wake-ups", most=1),
    Target("11", "idle", "hivectl, CPU", most=15),
    Target("12", "journal", "page, store", "page, iterating the file", least=5000),
    Target("12", "journal", "page, over HTTP", "page, iterating the file", least=1000),
    Target("12", "journal", "page, over HTTP, p50", most=1),
    Target("append", "journal", "append, batches of 64, CPU", most=0.5),
    Target("GET", "get", "hivectl", "FastAPI", least=2),
    *(
        Target("13", "queue", f"{what}, hivectl", f"{what}, {reference}", least=least)
        for what in ("insert", "claim")
        for reference, least in (("sqlite3 on the loop", 1.5), ("aiosqlite", 6.0))
    ),
    Target("14", "stalled", "hivectl, healthy share", least=100),
    Target("14", "stalled", "hivectl, deliveries", "hivectl, none stalled, deliveries", least=0.9),
    Target("14", "stalled", "hivectl, growth", most=16),
    Target("14", "stalled", "hivectl, had by the stalled in the end", least=100),
    Target("restart", "restart", "listening", most=1000),
    Target("restart", "restart", "all attached", most=2000),
)

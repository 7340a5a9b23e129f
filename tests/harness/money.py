"""Recorded runs of the real CLI, cut down to what an account book needs, and a run to read them in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.engine.effects import apply_effects
from hivectl.kit.clock import FakeClock
from hivectl.model.usage import NO_BUDGETS, Budgets
from hivectl.model.work import Cause, Execution, ExecutionState, Options, Outcome
from hivectl.ports import MessageSeen, Partial, RunSpec, Seen
from hivectl.store import work, workers
from hivectl.store.database import Database
from tests.unit.store.test_work import Bench

FILE = Path(__file__).parents[1] / "fixtures" / "claude" / "usage.jsonl"
SPEC = RunSpec(
    execution="x_1", prompt="hi", prompt_uuid="00000000-0000-4000-8000-000000000001",
    cwd=Path("/home/dev/project"), session="11111111-1111-4111-8111-111111111111", resume=False,
    options=Options(), trusted=True, slash_commands=False,
)  # fmt: skip
Lines = list[dict[str, Any]]


def recordings() -> dict[str, Lines]:
    found: dict[str, Lines] = {}
    rest = iter(FILE.read_text().splitlines())
    for head in rest:
        fields = json.loads(head)
        found[fields["scenario"]] = [json.loads(next(rest)) for _ in range(fields["lines"])]
    return found


def data_of(lines: Lines) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def stated_usd(lines: Lines) -> float:
    """What Claude says its turns cost."""
    return sum(
        model["costUSD"]
        for line in lines
        for model in line.get("model_usage_since_last_result", {}).values()
    )


def stated_tokens(lines: Lines) -> int:
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return sum(
        model[name]
        for line in lines
        for model in line.get("model_usage_since_last_result", {}).values()
        for name in names
    )


def as_older(lines: Lines) -> Lines:
    """The same as a version writes it that states only running totals of the process."""
    totals: dict[str, dict[str, float]] = {}
    older = []
    for line in lines:
        if line["type"] == "result":
            kept = dict(line)
            for model, part in kept.pop("model_usage_since_last_result", {}).items():
                entry = totals.setdefault(model, dict.fromkeys(part, 0))
                for name, value in part.items():
                    entry[name] += value
            kept["modelUsage"] = {model: dict(entry) for model, entry in totals.items()}
            kept["total_cost_usd"] = sum(entry["costUSD"] for entry in totals.values())
            older.append(kept)
        else:
            older.append(line)
    return older


@dataclass
class Run:
    """One execution that is read by hand."""

    bench: Any
    id: str
    project: Any
    budgets: Budgets = NO_BUDGETS
    logged: int = 0
    """Up to here the log has the output: where the next daemon reads on."""

    async def read(
        self, data: bytes, edges: Sequence[int] = (), *, from_: int | None = None
    ) -> None:
        """Read from where the log ends, as one daemon does: a transaction for each piece."""
        start = self.logged if from_ is None else from_
        conversation = ClaudeConversation(SPEC, offset=start)
        cuts = [start, *sorted(edge for edge in edges if start < edge < len(data)), len(data)]
        for at, stop in pairwise(cuts):
            await self.take(conversation.feed(data[at:stop], at))

    async def take(self, seen: Sequence[Seen], *, is_logged: bool = True) -> Any:
        effects, at = [], 0
        for item in seen:
            if isinstance(item, MessageSeen | Partial):
                at = item.end
                if isinstance(item, MessageSeen) and is_logged:
                    self.logged = item.end
            else:
                effects.append((at, item))
        return await self.bench.db.write(
            lambda tx: apply_effects(tx, self.id, effects, default="ask", budgets=self.budgets)
        )

    async def end(self, state: ExecutionState = ExecutionState.COMPLETED) -> Execution:
        outcome = Outcome(state=state, cause=Cause.OK)
        return await self.bench.db.write(lambda tx: work.end(tx, self.id, outcome))

    async def spend(self, by: str = "execution") -> list[Any]:
        return await self.bench.db.all(
            f"SELECT {by} AS key, total(cost_usd) AS usd, sum(input_tokens + output_tokens + cache_read_tokens +"
            " cache_creation_tokens) AS tokens, total(cost_usd * is_estimate) AS estimated, sum(active_ms) AS ms FROM spend"
            f" WHERE source <> 'earlier' GROUP BY {by} ORDER BY {by}"
        )

    async def book(self) -> list[tuple[Any, ...]]:
        """All rows that say what was used, without time."""
        rows = await self.bench.db.all(
            "SELECT model, input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cost_usd, is_estimate, source"
            " FROM spend WHERE source <> 'time' ORDER BY id"
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def opened(path: Path) -> Any:
    """A database with one project."""
    clock = FakeClock()
    db = await Database.open(path, clock)
    try:
        await db.write(lambda tx: workers.sync_slots(tx, default=10))
        yield Bench(db, clock)
    finally:
        await db.close()


async def start(bench: Any, project: Any = None, **changes: Any) -> Run:
    """A running execution."""
    project = project or await bench.project()
    await bench.enqueue(project, **changes)
    claimed = await bench.claim()
    assert claimed is not None
    begun = await bench.db.write(lambda tx: work.started(tx, claimed.id, pid=7))
    return Run(bench, begun.id, project)

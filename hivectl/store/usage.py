"""What was used, in SQL: each message once, each turn by Claude's own figures, nothing lost to a SIGKILL.

While a turn goes on its messages are kept one by one with a price worked out from tokens. When Claude
states the turn's sum, that goes into the book (`spend`) and the messages go. When the execution ends and
Claude never stated it, the messages go into the book as an estimate. All of it happens in the
transaction that marks the output as read, so that reading it again changes nothing.

Spend belongs to the day (of the calendar where the daemon runs) on which it was stated; minutes are
split at midnight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import asdict, replace

from hivectl.logic import days, prices
from hivectl.model.price import Price
from hivectl.model.usage import Figures, Scope, Used
from hivectl.model.work import Execution, Usage
from hivectl.store import rows
from hivectl.store.database import Tx

LEARN_ROWS = 50
"""From so many of Claude's last figures the price of a model is learnt."""
TOTALS_KEPT_US = 30 * 86_400_000_000
"""No process lives longer."""
MARKS_KEPT_US = 7 * 86_400_000_000
"""An execution may run for so long, and is told of its own budget once."""

_FIGURES = "input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens"


class MessageFacts(Protocol):
    """What is read of a message's figures (`ports.UsageSeen`)."""

    @property
    def message(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_creation_tokens(self) -> int: ...
    @property
    def said_tokens(self) -> int: ...
    @property
    def is_final(self) -> bool: ...


class TurnFacts(Protocol):
    """What is read of the end of a turn (`ports.ResultSeen`)."""

    @property
    def usage(self) -> Usage: ...
    @property
    def models(self) -> tuple[Figures, ...]: ...
    @property
    def is_total(self) -> bool: ...


# --- while a turn goes on --------------------------------------------------------------------------


def see(
    tx: Tx, execution: Execution, messages: Iterable[MessageFacts], table: Mapping[str, str]
) -> None:
    """Keep the figures of messages: the greatest of each, since they are stated again with every block."""
    merged: dict[str, list[Any]] = {}
    for item in messages:
        row = merged.setdefault(item.message, [item.model, 0, 0, 0, 0, 0, 0])
        row[0] = row[0] or item.model
        row[1] = max(row[1], item.input_tokens)
        row[2] = max(row[2], item.output_tokens)
        row[3] = max(row[3], item.cache_read_tokens)
        row[4] = max(row[4], item.cache_creation_tokens)
        row[5] += item.said_tokens
        row[6] |= item.is_final
    tx.run_many(
        f"INSERT INTO usage_messages(execution, message, model, {_FIGURES}, said_tokens, is_final)"
        " VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT(execution, message) DO UPDATE SET"
        " model = iif(model = '', excluded.model, model),"
        " input_tokens = max(input_tokens, excluded.input_tokens),"
        " output_tokens = max(output_tokens, excluded.output_tokens),"
        " cache_read_tokens = max(cache_read_tokens, excluded.cache_read_tokens),"
        " cache_creation_tokens = max(cache_creation_tokens, excluded.cache_creation_tokens),"
        " said_tokens = said_tokens + excluded.said_tokens, is_final = max(is_final, excluded.is_final)",
        [(execution.id, message, *row) for message, row in merged.items()],
    )
    for model in {row[0] for row in merged.values()}:
        price = prices.list_price(model, table)
        price = price.times(learn(tx, model, price))
        tx.run(
            "INSERT OR REPLACE INTO usage_prices(model, input, output, cache_read, cache_creation) VALUES (?,?,?,?,?)",
            model, price.input, price.output, price.cache_read, price.cache_creation,
        )  # fmt: skip


def learn(tx: Tx, model: str, price: Price) -> float:
    """How many times `price` this model costs by Claude's own figures; 1 when it has stated none."""
    found = tx.all(
        f"SELECT model, {_FIGURES}, cost_usd FROM spend WHERE model = ? AND source = 'result' AND cost_usd > 0"
        " ORDER BY id DESC LIMIT ?",
        model, LEARN_ROWS,
    )  # fmt: skip
    figures = [_figures(row) for row in found]
    each = [used.cost_usd / by_list for used in figures if (by_list := price.cost(used)) > 0]
    import statistics  # noqa: PLC0415  it loads fractions and random: too much for a start

    # The median: one turn with searches, or above a model's first price step, must not price all others.
    return statistics.median(each) if each else 1.0


def _figures(row: Any) -> Figures:
    return Figures(
        model=row["model"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cache_read_tokens=row["cache_read_tokens"],
        cache_creation_tokens=row["cache_creation_tokens"],
        cost_usd=row["cost_usd"],
    )


# --- the ends of turns and executions ---------------------------------------------------------------


def settle(tx: Tx, execution: Execution, turn: TurnFacts) -> tuple[Usage, list[Figures]]:
    """Claude states what its turn used: into the book with it. Returns the turn's own sum and its parts
    by model, also for versions that state running totals only."""
    parts = _since_last(tx, execution, turn) if turn.is_total else list(turn.models)
    if not any(model.tokens for model in turn.models):
        parts = [_whole(execution, turn.usage, parts)]
    parts = [part for part in parts if part.tokens or part.cost_usd]
    for part in parts:
        _book(tx, execution, part, source="result")
    tx.run("DELETE FROM usage_messages WHERE execution = ?", execution.id)
    sum_ = Usage(turns=turn.usage.turns, duration_ms=turn.usage.duration_ms, **_sum(parts))
    return sum_, parts


def _whole(execution: Execution, usage: Usage, parts: list[Figures]) -> Figures:
    """Tokens that Claude stated for no model in particular."""
    return Figures(
        model=execution.model or "",
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_creation_tokens=usage.cache_creation_tokens,
        cost_usd=sum(part.cost_usd for part in parts) if parts else usage.cost_usd,
    )


def _since_last(tx: Tx, execution: Execution, turn: TurnFacts) -> list[Figures]:
    """What its process used since the result before, by the totals kept of that one."""
    process = execution.process or execution.id
    parts = []
    for now in turn.models:
        row = tx.one(
            f"SELECT model, {_FIGURES}, cost_usd FROM usage_totals WHERE process = ? AND model = ?",
            process, now.model,
        )  # fmt: skip
        before = _figures(row) if row is not None else Figures(model=now.model)
        if now.tokens < before.tokens or now.cost_usd < before.cost_usd:
            before = Figures(model=now.model)  # it began to count anew
        parts.append(
            Figures(
                model=now.model,
                input_tokens=max(now.input_tokens - before.input_tokens, 0),
                output_tokens=max(now.output_tokens - before.output_tokens, 0),
                cache_read_tokens=max(now.cache_read_tokens - before.cache_read_tokens, 0),
                cache_creation_tokens=max(
                    now.cache_creation_tokens - before.cache_creation_tokens, 0
                ),
                cost_usd=now.cost_usd - before.cost_usd,
            )
        )
        tx.run(
            f"INSERT OR REPLACE INTO usage_totals(process, model, {_FIGURES}, cost_usd, at_us) VALUES (?,?,?,?,?,?,?,?)",
            process, now.model, now.input_tokens, now.output_tokens, now.cache_read_tokens, now.cache_creation_tokens,
            now.cost_usd, tx.now_us,
        )  # fmt: skip
    return parts


def close(tx: Tx, execution: Execution) -> None:
    """An execution ends now: its minutes are booked, and what Claude did not live to state, as an estimate.

    Adds the estimate to the execution's own figures. To be called once, before its end is stored.
    """
    parts = open_messages(tx, execution.id)
    for part in parts:
        _book(tx, execution, part, source="messages")
    tx.run("DELETE FROM usage_messages WHERE execution = ?", execution.id)
    for day, ms in days.split_ms(tx.now_us, active_ms(execution, tx.now_us)):
        _book(tx, execution, Figures(model=execution.model or ""), source="time", day=str(day), ms=ms)  # fmt: skip
    if parts:
        add = Usage(**_sum(parts))
        usage = added(execution.usage, add)
        tx.run(
            "UPDATE executions SET usage = ?, cost_usd = ?, cost_is_estimate = 1 WHERE id = ?",
            rows.dump(usage), usage["cost_usd"], execution.id,
        )  # fmt: skip
        tell(tx, execution, usage, [asdict(part) for part in parts], is_estimate=True)


def tell(
    tx: Tx,
    execution: Execution,
    usage: Mapping[str, Any],
    parts: list[dict[str, Any]],
    *,
    is_estimate: bool,
) -> None:
    """Say what an execution has used by now, and what of it is new."""
    data = {
        "usage": usage,
        "cost_usd": usage["cost_usd"],
        "is_estimate": is_estimate,
        "added": parts,
    }
    tx.emit(execution.stream, "usage.updated", data, execution=execution.id)


def added(before: Mapping[str, Any], more: Usage) -> dict[str, Any]:
    """The sum of what was stored and what is new."""
    return {name: before.get(name, 0) + value for name, value in asdict(more).items()}


def _sum(parts: Iterable[Figures]) -> dict[str, Any]:
    parts = list(parts)
    return {
        "input_tokens": sum(part.input_tokens for part in parts),
        "output_tokens": sum(part.output_tokens for part in parts),
        "cache_read_tokens": sum(part.cache_read_tokens for part in parts),
        "cache_creation_tokens": sum(part.cache_creation_tokens for part in parts),
        "cost_usd": sum(part.cost_usd for part in parts),
    }


def _book(
    tx: Tx,
    execution: Execution,
    part: Figures,
    *,
    source: str,
    day: str | None = None,
    ms: int = 0,
    at_us: int | None = None,
) -> None:
    tx.run(
        f"INSERT INTO spend(at_us, day, execution, project, actor, model, {_FIGURES}, cost_usd, active_ms, is_estimate, source)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        at_us or tx.now_us, day or str(days.day_of(tx.now_us)), execution.id, execution.project, execution.actor, part.model,
        part.input_tokens, part.output_tokens, part.cache_read_tokens, part.cache_creation_tokens, part.cost_usd, ms,
        int(source == "messages"), source,
    )  # fmt: skip


class Told(msgspec.Struct, frozen=True):
    """What a `usage.updated` of the log says: `added` by model, None in logs of earlier versions."""

    at_us: int
    execution: str
    added: list[dict[str, Any]] | None
    is_estimate: bool


def restore(tx: Tx, project: str, told: Iterable[Told]) -> None:
    """The book of a project from its log, where the database was lost. Executions are there already."""
    for item in told:
        row = tx.one("SELECT * FROM executions WHERE id = ?", item.execution)
        if row is None:
            continue
        for part in item.added or ():
            tx.run(
                f"INSERT INTO spend(at_us, day, execution, project, actor, model, {_FIGURES}, cost_usd, is_estimate, source)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                item.at_us, str(days.day_of(item.at_us)), item.execution, project, row["actor"], part["model"],
                part["input_tokens"], part["output_tokens"], part["cache_read_tokens"], part["cache_creation_tokens"],
                part["cost_usd"], int(item.is_estimate), "messages" if item.is_estimate else "result",
            )  # fmt: skip
        if item.is_estimate:
            tx.run("UPDATE executions SET cost_is_estimate = 1 WHERE id = ?", item.execution)
    for row in tx.all(f"SELECT {rows.columns(Execution)} FROM executions WHERE project = ? AND ended_us IS NOT NULL", project):  # fmt: skip
        ended = rows.read(Execution, row)
        for day, ms in days.split_ms(ended.ended_us or 0, active_ms(ended, tx.now_us)):
            _book(tx, ended, Figures(model=ended.model or ""), source="time", day=str(day), ms=ms, at_us=ended.ended_us)  # fmt: skip
    tx.run(
        f"INSERT INTO spend(at_us, day, execution, project, actor, model, {_FIGURES}, cost_usd, source)"
        " SELECT coalesce(ended_us, created_us), date(coalesce(ended_us, created_us) / 1000000, 'unixepoch', 'localtime'), id,"
        " project, actor, coalesce(model, ''), coalesce(usage ->> 'input_tokens', 0), coalesce(usage ->> 'output_tokens', 0),"
        " coalesce(usage ->> 'cache_read_tokens', 0), coalesce(usage ->> 'cache_creation_tokens', 0), cost_usd, 'earlier'"
        " FROM executions e WHERE project = ? AND cost_usd > 0 AND NOT EXISTS"
        " (SELECT 1 FROM spend s WHERE s.execution = e.id AND s.source <> 'time')",
        project,
    )


# --- sums ------------------------------------------------------------------------------------------


def open_messages(tx: Tx, execution: str) -> list[Figures]:
    """What the messages of its running turn come to, by model."""
    found = tx.all(
        "SELECT model, sum(input_tokens) AS input_tokens, sum(output) AS output_tokens,"
        " sum(cache_read_tokens) AS cache_read_tokens, sum(cache_creation_tokens) AS cache_creation_tokens,"
        " total(cost_usd) AS cost_usd FROM usage_open WHERE execution = ? GROUP BY model",
        execution,
    )
    return [part for part in map(_figures, found) if part.tokens]


OPEN_SQL = (
    "(SELECT json_array(sum(input_tokens), sum(output), sum(cache_read_tokens), sum(cache_creation_tokens),"
    " total(cost_usd)) FROM usage_open m WHERE m.execution = e.id AND e.ended_us IS NULL)"
)
"""Of an execution `e`: what its running turn has come to, for `with_open`."""


def with_open(execution: Execution, open_: str) -> Execution:
    """The execution with its running turn counted in, as an estimate."""
    input_, output, read, creation, usd = msgspec.json.decode(open_)
    if input_ is None:
        return execution
    more = Usage(
        input_tokens=input_,
        output_tokens=output,
        cache_read_tokens=read,
        cache_creation_tokens=creation,
        cost_usd=usd,
    )
    total = added(execution.usage, more)
    return replace(execution, usage=total, cost_usd=total["cost_usd"], cost_is_estimate=True)


def active_ms(execution: Execution, now_us: int) -> int:
    """How long it has worked: waiting for a person does not count."""
    if execution.started_us is None:
        return 0
    waited = execution.waited_us
    if execution.waiting_since_us is not None:
        waited += max(0, now_us - execution.waiting_since_us)
    return max(0, (execution.ended_us or now_us) - execution.started_us - waited) // 1000


_COLUMN = {Scope.EXECUTION: "execution", Scope.PROJECT: "project", Scope.USER: "actor"}
_TOKENS = "input_tokens + output_tokens + cache_read_tokens + cache_creation_tokens"


def used(tx: Tx, scope: Scope, key: str, *, day: str | None = None) -> Used:
    """What an execution has used, or a project or user on a day (None = ever): booked, and of running turns."""
    column = _COLUMN[scope]
    booked = tx.one(
        f"SELECT total(cost_usd) AS usd, coalesce(sum({_TOKENS}), 0) AS tokens, coalesce(sum(active_ms), 0) AS ms,"
        f" total(cost_usd * is_estimate) AS estimated FROM spend WHERE {column} = ? AND (? IS NULL OR day = ?)",
        key, day, day,
    )  # fmt: skip
    running = tx.one(
        "SELECT total(cost_usd) AS usd, coalesce(sum(input_tokens + cache_read_tokens + cache_creation_tokens + output), 0)"
        f" AS tokens FROM usage_open WHERE {column} = ?",
        key,
    )  # fmt: skip
    assert booked is not None
    assert running is not None
    return Used(
        usd=booked["usd"] + running["usd"],
        tokens=booked["tokens"] + running["tokens"],
        ms=booked["ms"],
        estimated_usd=booked["estimated"] + running["usd"],
    )


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Whose spend, and of which time."""

    since_us: int
    until_us: int
    now_us: int
    project: str | None = None
    actor: str | None = None


_GROUPS = {
    "project": ("s.project", "coalesce(p.name, s.project)", "cost_usd DESC, key"),
    "user": ("s.actor", "s.actor", "cost_usd DESC, key"),
    "model": ("s.model", "iif(s.model = '', 'not known', s.model)", "cost_usd DESC, key"),
    "day": ("s.day", "s.day", "key DESC"),
    "execution": ("s.execution", "coalesce(p.name, s.project)", "key DESC"),
}
"""Key, name for people and order of the rows, by what they are sums of."""


def sums(wanted: Wanted, by: str | None) -> tuple[str, list[Any]]:
    """The SELECT of sums by a group (None = of all) and its arguments: booked, and of turns that run now."""
    key, name, order = _GROUPS[by] if by else ("''", "''", "1")
    today = str(days.day_of(wanted.now_us))
    both = (
        f"SELECT at_us, day, execution, project, actor, model, {_FIGURES}, cost_usd, active_ms, is_estimate FROM spend"
        f" WHERE at_us >= ? AND at_us < ? UNION ALL SELECT ?, ?, execution, project, actor, model, input_tokens, output,"
        " cache_read_tokens, cache_creation_tokens, cost_usd, 0, 1 FROM usage_open"
    )
    sql = (
        f"SELECT {key} AS key, {name} AS name, count(DISTINCT s.execution) AS runs,"
        " coalesce(sum(s.input_tokens), 0) AS input_tokens, coalesce(sum(s.output_tokens), 0) AS output_tokens,"
        " coalesce(sum(s.cache_read_tokens), 0) AS cache_read_tokens,"
        " coalesce(sum(s.cache_creation_tokens), 0) AS cache_creation_tokens,"
        " coalesce(sum(s.active_ms), 0) AS active_ms, total(s.cost_usd) AS cost_usd,"
        f" total(s.cost_usd * s.is_estimate) AS estimated_usd FROM ({both}) s LEFT JOIN projects p ON p.id = s.project"
        " WHERE s.at_us < ? AND (? IS NULL OR s.project = ?) AND (? IS NULL OR s.actor = ?)"
        + (f" GROUP BY key ORDER BY {order}" if by else "")
    )
    return sql, [
        wanted.since_us, wanted.until_us, wanted.now_us, today, wanted.until_us,
        wanted.project, wanted.project, wanted.actor, wanted.actor,
    ]  # fmt: skip


# --- what a claim asks ------------------------------------------------------------------------------


def blocked_projects(tx: Tx) -> list[str]:
    """Projects whose budget of the day is used up."""
    return _blocked(tx, Scope.PROJECT)


def blocked_users(tx: Tx) -> list[str]:
    """Users whose budget of the day is used up."""
    return _blocked(tx, Scope.USER)


def _blocked(tx: Tx, scope: Scope) -> list[str]:
    found = tx.all(
        "SELECT DISTINCT key FROM budget_blocks WHERE scope = ? AND until_us > ?", scope, tx.now_us
    )
    return [row["key"] for row in found]


def is_blocked(tx: Tx, project: str, actor: str) -> str | None:
    """Why no work of this project and user may start now, in a sentence; None when it may."""
    row = tx.one(blocked_sql("?", "?"), tx.now_us, project, actor)
    return str(row["reason"]) if row is not None else None


def blocked_sql(project: str, actor: str) -> str:
    """A SELECT of the reason, of (now) and what stands for project and actor."""
    return (
        f"SELECT reason FROM budget_blocks WHERE until_us > ? AND ((scope = 'project' AND key = {project})"
        f" OR (scope = 'user' AND key = {actor})) ORDER BY until_us DESC, scope LIMIT 1"
    )


def forget(tx: Tx) -> None:
    """Drop what is too old to count: marks of earlier days, and totals of processes that cannot live any more."""
    tx.run("DELETE FROM budget_marks WHERE day < ?", str(days.day_of(tx.now_us - MARKS_KEPT_US)))
    tx.run("DELETE FROM usage_totals WHERE at_us < ?", tx.now_us - TOTALS_KEPT_US)

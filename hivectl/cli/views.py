"""How each noun looks as a table: one list of columns each, shared by hot and other commands.

Pure and light: dictionaries of the wire in, text out. Imports nothing at load.
"""

from __future__ import annotations

from hivectl.cli.table import pairs, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Item = Mapping[str, Any]
    Columns = Sequence[tuple[str, Callable[[Item, float], object]]]

_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def seconds_of(stamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time in UTC, as the wire has them."""
    year, month, day = int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10])
    hour, minute, second = int(stamp[11:13]), int(stamp[14:16]), float(stamp[17:].rstrip("Z"))
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    before = year - 1
    days = 365 * before + before // 4 - before // 100 + before // 400 - 719162
    days += _DAYS_BEFORE[month - 1] + (1 if is_leap and month > 2 else 0) + day - 1
    return days * 86400 + hour * 3600 + minute * 60 + second


def ago(stamp: str | None, now_s: float) -> str:
    """How long ago: `12s`, `5m`, `3h`, `2d`."""
    if not stamp:
        return "-"
    return span(max(now_s - seconds_of(stamp), 0))


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def money(amount: float | None, *, is_rough: object = False) -> str:
    """US dollars; `~` where part was worked out from tokens because Claude never stated it."""
    if not amount:
        return "-"
    about = "~" if is_rough else ""
    return f"{about}${amount:.4f}" if amount < 1 else f"{about}${amount:.2f}"


def state(item: Item) -> str:
    """An execution's state with what explains it."""
    name = str(item["state"])
    if name == "pending" and item.get("place") is not None:
        return f"pending #{item['place']}"
    if item.get("stalled"):
        return f"{name} (stalled: {item['stalled']})"
    if name == "waiting":
        return f"waiting ({len(item.get('waiting_for') or [1])} to answer)"
    if name == "running" and item.get("retrying"):
        return f"running (retries: {item['retrying']})"
    if item.get("cause") and item["cause"] not in {"ok", "killed", "timeout"}:
        return f"{name} ({item['cause']})"
    return name


def place(item: Item) -> str:
    """Where an execution runs: its project, with the end of its worktree's id."""
    worktree = item.get("worktree")
    return f"{item['project_name']}+{worktree[-8:]}" if worktree else str(item["project_name"])


def tokens(usage: Item | None) -> str:
    """Input (with cache) and output."""
    if not usage:
        return "-"
    sent = sum(
        usage.get(name, 0)
        for name in ("input_tokens", "cache_read_tokens", "cache_creation_tokens")
    )
    return f"{sent:,}/{usage.get('output_tokens', 0):,}"


def what(approval: Item) -> str:
    """What Claude wants or asks, without the tool's name, which stands beside it."""
    text = str(approval.get("summary") or approval.get("description") or "")
    return text.removeprefix(f"{approval['tool']}: ")


def decided(approval: Item) -> str:
    """How an approval ended: allowed or denied, and by whom."""
    if approval["state"] == "pending":
        return "waits"
    if not approval.get("decision"):
        return str(approval["state"])
    word = "allowed" if approval["decision"] == "allow" else "denied"
    changed = ", changed" if approval.get("changed_input") else ""
    late = ", nobody answered in time" if approval.get("timed_out") else ""
    heard = "" if approval.get("delivered", True) else ", not heard yet"
    return f"{word}{changed} by {approval.get('decided_by') or 'somebody'}{late}{heard}"


def left(approval: Item, now_s: float) -> str:
    """How long until an approval decides itself, and how: `deny 5m`; `-` where it waits for somebody."""
    if not approval.get("expires_at"):
        return "-"
    return f"{approval['on_timeout']} {span(max(seconds_of(approval['expires_at']) - now_s, 0))}"


def patience(rule: Item) -> str:
    """What a rule that asks says of the time a person has."""
    if not rule.get("on_timeout"):
        return ""
    if rule["on_timeout"] == "wait":
        return "for ever"
    return f"{rule['on_timeout']} after {span(rule['timeout_s'])}"


def instead(approval: Item) -> list[str]:
    """What was answered, or allowed instead of what Claude wanted; empty where nothing was said."""
    lines = [f"{question} {answer}" for question, answer in (approval.get("answers") or {}).items()]
    before = approval.get("input") or {}
    changed = approval.get("changed_input") or {}
    lines += [
        f"changed {name}: {value}" for name, value in changed.items() if before.get(name) != value
    ]
    lines += [f"without {name}" for name in before if changed and name not in changed]
    return lines


def _lasted(item: Item, now_s: float) -> str:
    if item.get("ended_at"):
        return span(item["duration_ms"] / 1000)
    return ago(item.get("started_at") or item["created_at"], now_s)


def _session_state(item: Item) -> str:
    """A conversation's state: whether it is the current one, and whether a process waits for it."""
    more = [
        name for name, is_so in (("current", "is_current"), ("warm", "is_warm")) if item.get(is_so)
    ]
    return str(item["state"]) + (f" ({', '.join(more)})" if more else "")


EXECUTIONS: Columns = (
    ("EXECUTION", lambda x, _: x["execution"]),
    ("PROJECT", lambda x, _: place(x)),
    ("STATE", lambda x, _: state(x)),
    ("TIME", _lasted),
    ("COST", lambda x, _: money(x.get("cost_usd"), is_rough=x.get("cost_is_estimate"))),
    ("PROMPT", lambda x, _: x["prompt"]),
)
EXECUTIONS_WIDE: Columns = (
    *EXECUTIONS[:5],
    ("TURNS", lambda x, _: (x.get("usage") or {}).get("turns")),
    ("TOKENS", lambda x, _: tokens(x.get("usage"))),
    ("MODEL", lambda x, _: x.get("model")),
    ("SESSION", lambda x, _: x.get("session")),
    ("PID", lambda x, _: x.get("pid")),
    ("PRIORITY", lambda x, _: x.get("priority")),
    ("ORDER", lambda x, _: x.get("work_order")),
    ("CREATED", lambda x, _: x["created_at"][:19].replace("T", " ")),
    EXECUTIONS[5],
)
PROJECTS: Columns = (
    ("PROJECT", lambda x, _: x["name"]),
    ("STATE", lambda x, _: x["state"] + (f" ({x['error']})" if x.get("error") else "")),
    ("TRUST", lambda x, _: x["trust"]),
    ("PENDING", lambda x, _: x.get("pending") or "-"),
    ("RUNS", lambda x, _: (x.get("totals") or {}).get("executions", "-")),
    ("COST", lambda x, _: money((x.get("totals") or {}).get("cost_usd"))),
    ("ACTIVE", lambda x, now: ago(x.get("last_activity_at"), now)),
    ("PATH", lambda x, _: x["path"]),
)
PROJECTS_WIDE: Columns = (
    ("ID", lambda x, _: x["id"]),
    *PROJECTS[:7],
    ("SESSION", lambda x, _: x.get("session")),
    ("EXECUTION", lambda x, _: x.get("execution")),
    PROJECTS[7],
)
SESSIONS: Columns = (
    ("SESSION", lambda x, _: x["session"]),
    ("PROJECT", lambda x, _: x["project_name"]),
    ("STATE", lambda x, _: _session_state(x)),
    ("RUNS", lambda x, _: x["executions"]),
    ("COST", lambda x, _: money(x.get("cost_usd"))),
    ("ACTIVE", lambda x, now: ago(x.get("last_activity_at"), now)),
)
SESSIONS_WIDE: Columns = (
    *SESSIONS,
    ("MODEL", lambda x, _: x.get("model")),
    ("LAST EXECUTION", lambda x, _: x.get("last_execution")),
    ("COPY OF", lambda x, _: x.get("forked_from")),
    ("PROCESS", lambda x, _: x.get("process")),
    ("WORKER", lambda x, _: x.get("worker")),
    ("ENDS", lambda x, _: x.get("expires_at")),
)
APPROVALS: Columns = (
    ("APPROVAL", lambda x, _: x["id"]),
    ("PROJECT", lambda x, _: x["project_name"]),
    ("AGE", lambda x, now: ago(x["created_at"], now)),
    ("RISK", lambda x, _: x.get("risk")),
    ("ENDS", left),
    ("TOOL", lambda x, _: "plan" if x["tool"] == "ExitPlanMode" else x["tool"]),
    ("WHAT", lambda x, _: what(x)),
)
APPROVALS_WIDE: Columns = (
    *APPROVALS[:3],
    ("KIND", lambda x, _: "plan" if x["tool"] == "ExitPlanMode" else x["kind"]),
    *APPROVALS[3:6],
    ("EXECUTION", lambda x, _: x["execution"]),
    ("STATE", lambda x, _: x["state"]),
    ("DECIDED", lambda x, _: decided(x)),
    ("WHY THE RISK", lambda x, _: x.get("risk_reason")),
    APPROVALS[6],
)
APPROVALS_ALL: Columns = (
    *APPROVALS[:3],
    APPROVALS[5],
    ("DECIDED", lambda x, _: decided(x)),
    APPROVALS[6],
)
THREADS: Columns = (
    ("THREAD", lambda x, _: x["thread"]),
    ("PROJECT", lambda x, _: x["project_name"]),
    ("NEW", lambda x, _: x["unread"] or "-"),
    ("WAITS", lambda x, _: span(x["waiting_ms"] / 1000) if x["waiting_for"] else "-"),
    ("ACTIVE", lambda x, now: ago(x["last_activity_at"], now)),
    ("ABOUT", lambda x, _: x["title"]),
)
THREADS_WIDE: Columns = (
    *THREADS[:5],
    ("MESSAGES", lambda x, _: x["messages"]),
    ("EXECUTION", lambda x, _: x["execution"]),
    ("STATE", lambda x, _: x["execution_state"]),
    ("WAITING FOR", lambda x, _: " ".join(x["waiting_for"])),
    THREADS[5],
)
POLICIES: Columns = (
    ("RULE", lambda x, _: x["id"]),
    ("ACTION", lambda x, _: x["action"]),
    ("TOOL", lambda x, _: x["tool"]),
    ("PROJECT", lambda x, _: x.get("project_name") or x.get("project") or "all"),
    ("MATCH", lambda x, _: " ".join(f"{k}={v}" for k, v in (x.get("match") or {}).items())),
    ("TIME-OUT", lambda x, _: patience(x)),
    ("NOTE", lambda x, _: x.get("note")),
)
POLICIES_WIDE: Columns = (
    ("#", lambda x, _: x["position"]),
    *POLICIES[:6],
    ("BY", lambda x, _: x.get("created_by")),
    POLICIES[6],
)
NOTIFICATIONS: Columns = (
    ("AGE", lambda x, now: ago(x["created_at"], now)),
    ("KIND", lambda x, _: x["kind"]),
    ("STATE", lambda x, _: _told(x)),
    ("TITLE", lambda x, _: x["title"]),
    ("TEXT", lambda x, _: x["text"]),
)
NOTIFICATIONS_WIDE: Columns = (
    ("ID", lambda x, _: x["id"]),
    *NOTIFICATIONS[:4],
    ("AGAIN", lambda x, _: x["repeats"] or "-"),
    ("EXECUTION", lambda x, _: x["execution"]),
    ("ANSWER", lambda x, _: x["hint"]),
    NOTIFICATIONS[4],
)


def _told(item: Item) -> str:
    """How far it got at its targets: one word where all agree, with the error where one failed."""
    found = item["deliveries"]
    states = list(dict.fromkeys(each["state"] for each in found))
    error = next((each["error"] for each in found if each["error"]), "")
    return ", ".join(states) + (f" ({error[:40]})" if error else "")


def order_state(order: Item) -> str:
    """A work order's state with what explains it."""
    name = str(order["state"])
    if order.get("place") is not None:
        return f"{name}, place {order['place']}"
    if order.get("hold"):
        until = order.get("not_before")
        held = str(order["hold"]).replace("_", " ")
        if order["hold"] == "after" and order.get("after"):
            return f"{name} ({held} {', '.join(order['after'])})"
        return f"{name} ({held}{' until ' + until[11:19] if until else ''})"
    return name


def first_line(text: str) -> str:
    """The first line of a text."""
    return str(text).strip().partition("\n")[0]


ORDERS: Columns = (
    ("ORDER", lambda x, _: x["work_order"]),
    ("PROJECT", lambda x, _: x["project_name"]),
    ("STATE", lambda x, _: order_state(x)),
    ("PRIORITY", lambda x, _: x["priority"]),
    ("AGE", lambda x, now: ago(x["created_at"], now)),
    ("PROMPT", lambda x, _: x["prompt"]),
)
ORDERS_WIDE: Columns = (
    *ORDERS[:5],
    ("EXECUTION", lambda x, _: x["execution"]),
    ("ATTEMPT", lambda x, _: x["attempt"]),
    ("RETRIES", lambda x, _: f"{x['retry_count']}/{x['retries']}" if x["retries"] else "-"),
    ("POOL", lambda x, _: x["pool"]),
    ("ACTOR", lambda x, _: x["actor"]),
    ("MESSAGE", lambda x, _: first_line(x.get("message") or "")),
    ORDERS[5],
)


def worker_state(worker: Item) -> str:
    """A worker's status with what explains it."""
    drained = ", drained" if worker.get("is_draining") else ""
    fault = f" ({first_line(worker['fault'])})" if worker.get("fault") else ""
    return f"{worker['status']}{drained}{fault}"


WORKERS: Columns = (
    ("WORKER", lambda x, _: x["name"]),
    ("KIND", lambda x, _: x["kind"]),
    ("STATUS", lambda x, _: worker_state(x)),
    ("EXECUTION", lambda x, _: x.get("execution")),
    ("PROJECT", lambda x, _: x.get("project_name")),
    ("HEARD", lambda x, now: ago(x["heartbeat_at"], now)),
)
WORKERS_WIDE: Columns = (
    ("ID", lambda x, _: x["worker"]),
    *WORKERS,
    ("POOLS", lambda x, _: ",".join(x["pools"])),
    ("LEASE", lambda x, _: x.get("lease_until")),
    ("SINCE", lambda x, now: ago(x["registered_at"], now)),
)

WORKTREES: Columns = (
    ("EXECUTION", lambda x, _: x["execution"]),
    ("PROJECT", lambda x, _: x["project_name"]),
    ("STATE", lambda x, _: x["state"]),
    ("AGE", lambda x, now: ago(x["created_at"], now)),
    ("BRANCH", lambda x, _: x["branch"]),
    ("PROBLEM", lambda x, _: x.get("problem")),
)
WORKTREES_WIDE: Columns = (
    ("WORKTREE", lambda x, _: x["worktree"]),
    *WORKTREES[:5],
    ("BASE", lambda x, _: (x.get("base") or "-")[:12]),
    ("PATH", lambda x, _: x["path"]),
    WORKTREES[5],
)
TABLES: dict[str, tuple[Columns, Columns, str]] = {
    "execution": (EXECUTIONS, EXECUTIONS_WIDE, "execution"),
    "project": (PROJECTS, PROJECTS_WIDE, "name"),
    "session": (SESSIONS, SESSIONS_WIDE, "session"),
    "approval": (APPROVALS, APPROVALS_WIDE, "id"),
    "any approval": (APPROVALS_ALL, APPROVALS_WIDE, "id"),
    "thread": (THREADS, THREADS_WIDE, "thread"),
    "policy": (POLICIES, POLICIES_WIDE, "id"),
    "order": (ORDERS, ORDERS_WIDE, "work_order"),
    "worktree": (WORKTREES, WORKTREES_WIDE, "execution"),
    "worker": (WORKERS, WORKERS_WIDE, "name"),
    "policy test": ((), (), "action"),
    "notification": (NOTIFICATIONS, NOTIFICATIONS_WIDE, "id"),
}
"""Per noun: the columns of table and wide, and the field `-o name` prints."""


def table(
    noun: str, items: Sequence[Item], *, is_wide: bool, now_s: float, width: int | None
) -> str:
    """The items of a noun as a table."""
    usual, wide, _ = TABLES[noun]
    columns = wide if is_wide else usual
    rows = [[make(item, now_s) for _, make in columns] for item in items]
    return render([name for name, _ in columns], rows, width=None if is_wide else width)


def names(noun: str, items: Sequence[Item]) -> str:
    """One name or id a line."""
    return "\n".join(str(item[TABLES[noun][2]]) for item in items)


def health(result: Item, *, width: int | None) -> str:
    """The daemon's health."""
    claude, runs = result.get("claude") or {}, result.get("executions") or {}
    rows: list[tuple[str, object]] = [
        ("status", result["status"]),
        *[("problem", problem) for problem in result.get("problems") or []],
        ("version", f"{result['version']} (protocol {result['protocol']})"),
        ("daemon", f"pid {result['pid']}, up {span(result['uptime_s'])}"),
        ("socket", result["socket"]),
        ("tcp", result.get("tcp") or "off"),
        *_tls(result.get("tls")),
        ("claude", _claude(claude)),
        (
            "executions",
            ", ".join(f"{count} {name}" for name, count in runs.items() if count) or "none",
        ),
        ("connections", result["connections"]),
        ("memory", size(result["rss_bytes"])),
        ("cpu", f"{result['cpu_percent']:.1f} %"),
        ("loop lag", f"{result['loop_lag_ms']:.1f} ms"),
        *_flat("disk", result.get("disk") or {}),
        *_flat("storage", result.get("storage") or {}),
    ]
    if result.get("self_approval_possible"):
        rows.append(
            (
                "note",
                "executions could approve their own requests: nothing separates them from you here",
            )
        )
    return pairs(rows, width=width)


def _tls(found: Item | None) -> list[tuple[str, object]]:
    if not found:
        return []
    names = ", ".join(found.get("names") or ()) or "no name"
    return [("tls", f"for {names}, {found['expires_in_days']} days left")]


def _claude(claude: Item) -> str:
    if claude.get("found") is False or not claude:
        return "not found"
    return " ".join(
        str(claude[name]) for name in ("version", "path", "problem") if claude.get(name)
    ) or str(dict(claude))


def _flat(name: str, values: Item) -> list[tuple[str, object]]:
    def shown(key: str, value: object) -> object:
        return size(value) if key.endswith("bytes") and isinstance(value, int | float) else value

    return [
        (f"{name} {key.removesuffix('_bytes').replace('_', ' ')}", shown(key, value))
        for key, value in values.items()
    ]


def unstopped(result: Item) -> bool:
    """Whether something goes on that was to be stopped."""
    return any(item["state"] in UNFINISHED for item in result["executions"])


def killed(result: Item, mode: str = "terminate") -> str:
    """What died, one execution a line; what did not, with what ends it."""
    lines = []
    for item in result["executions"]:
        swept = item.get("swept")
        extra = f", {swept} further processes ended" if swept else ""
        if item["state"] in UNFINISHED:
            force = "" if mode == "interrupt" else " --force"
            extra += f": it did not stop; end it with: hivectl kill{force} {item['execution']}"
        lines.append(f"{item['execution']}  {item['project_name']}  {state(item)}{extra}")
    if result.get("survivors"):
        lines.append(f"{result['survivors']} processes could not be ended")
    return "\n".join(lines) or "nothing was running"


UNFINISHED = ("pending", "starting", "running", "waiting")
"""States of executions that are not over: what `ps` shows."""


def nothing_runs(*, has_all: bool) -> str:
    """What to say instead of an empty table of executions."""
    if has_all:
        return 'nothing was executed yet; start with: hivectl exec "what to do"'
    return "nothing runs or waits; `hivectl ps -a` shows what ended"

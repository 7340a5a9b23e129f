"""What people see, at 80 and 140 columns, as it was last looked at.

After a wanted change: GOLDEN_WRITE=1 pytest tests/unit/cli/test_golden.py, and read the difference.
"""

import os
import re
from pathlib import Path

import pytest

from hivectl.cli import details, failure, views
from hivectl.cli.transcript import ended
from hivectl.model.errors import HiveError

GOLDEN = Path(__file__).parent / "golden"
NOW_S = views.seconds_of("2026-11-21T05:30:00.000000Z")
LONG = "fix the failing test in the payment module and add another one that covers refunds in other currencies"


def plain(text):
    """As the screen shows it in the end: without colours, and without status lines that were erased."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.sub(r"(?:…[^\n]*?)?\r\x1b\[2K", "", text)


def hold(name, text):
    file = GOLDEN / f"{name}.txt"
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if os.environ.get("GOLDEN_WRITE"):
        file.write_text(text)
    assert text == file.read_text()


def executions(kit):
    execution = kit.execution
    return [
        execution("x_06gzrmfr9kv9xxnrq4b1", state="running", prompt=LONG, pid=4711),
        execution(
            "x_06gzrmfr9kv9xxnrq4b2", state="pending", place=2, prompt="then this", started_at=None
        ),
        execution(
            "x_06gzrmfr9kv9xxnrq4b3", state="waiting", waiting_for=["a_1"], prompt="日本語のテスト"
        ),
        execution("x_06gzrmfr9kv9xxnrq4b4", state="running", retrying="3 of 10", prompt="retry"),
        execution(
            "x_06gzrmfr9kv9xxnrq4b5",
            state="failed",
            cause="usage_limit",
            ended_at="2026-11-21T03:10:00Z",
            prompt="evil \x1b[2J\u202e prompt\nwith lines",
            cost_usd=12.5,
        ),
    ]


@pytest.mark.parametrize("width", [80, 140])
def test_ps(kit, width):
    items = executions(kit)
    hold(f"ps-{width}", views.table("execution", items, is_wide=False, now_s=NOW_S, width=width))


def test_ps_wide_is_never_cut(kit):
    text = views.table("execution", executions(kit), is_wide=True, now_s=NOW_S, width=80)
    assert LONG in text
    hold("ps-wide", text)


@pytest.mark.parametrize("width", [80, 140])
def test_lists(kit, width):
    lists = {
        "project": [kit.project(), kit.project(name="api", state="error", error="path gone", trust="changed")],
        "approval": [kit.approval(), kit.approval(id="a_2", summary="Bash: " + LONG)],
        "session": [
            {
                "session": "11111111-2222-3333-4444-555555555555", "project": "p_1", "project_name": "web",
                "state": "idle", "is_current": True, "executions": 3, "last_execution": "x_1",
                "cost_usd": 0.5, "model": "claude-opus-5-5", "created_at": kit.CREATED,
                "last_activity_at": kit.CREATED,
            }
        ],
        "policy": [
            {
                "id": "y_1", "action": "allow", "tool": "Bash", "match": {"command": "git diff*"},
                "project": None, "note": "harmless", "position": 1, "created_by": "user:me",
                "created_at": kit.CREATED,
            }
        ],
    }  # fmt: skip
    parts = [
        views.table(noun, items, is_wide=False, now_s=NOW_S, width=width)
        for noun, items in lists.items()
    ]
    hold(f"lists-{width}", "\n\n".join(parts))


@pytest.mark.parametrize("width", [80, 140])
def test_health(kit, width):
    hold(f"health-{width}", views.health(kit.HEALTH, width=width))


def test_details(kit):
    item = kit.execution(
        state="failed", cause="claude_error", message="It did not work.", ended_at=kit.CREATED,
        exit_code=1, stderr="boom\nbang\n", result="Half an answer.\nMore.", options={"model": "opus"},
    )  # fmt: skip
    report = {
        "path": "/p", "hash": "h", "hooks": ["PreToolUse: ./check.sh"], "mcp_servers": ["github: npx x"],
        "env": ["ANTHROPIC_BASE_URL"], "permissions": [], "claude_md": ["CLAUDE.md"], "other": [], "problems": ["odd"],
    }  # fmt: skip
    nothing = {**{name: [] for name in report}, "path": "/p", "hash": ""}
    killed = {
        "executions": [kit.execution(state="cancelled", cause="killed", swept=3)],
        "survivors": 0,
    }
    parts = [
        details.execution(item),
        details.project(kit.project(defaults={"model": "opus"}, env={"A": "b"})),
        details.trust(report),
        details.trust(nothing),
        views.killed(killed),
        views.killed({"executions": [], "survivors": 0}),
        "".join(text for _, text in ended(item).pieces),
    ]
    hold("details", "\n\n----\n".join(parts))


def test_errors():
    errors = [
        HiveError("PROJECT_BUSY", "Project 'web' is busy.", details={"execution": "x_1"}),
        HiveError("CLAUDE_NOT_FOUND"),
        HiveError(
            "INVALID_PARAMS",
            details={"errors": [{"pointer": "/options/timeout_s", "message": "must be above 0"}]},
        ),
        HiveError("INVALID_STATE", "It is over.", details={"allowed": ["running", "waiting"]}),
        HiveError("INTERNAL", "evil \x1b[31m text", details={"incident": "i_1"}),
    ]
    parts = [failure.render_text(error, color=False) for error in errors]
    parts += [failure.render_json(error) for error in errors]
    hold("errors", "\n".join(parts))


@pytest.mark.parametrize("width", [80, 140])
def test_a_run_on_a_terminal(hive, script, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))

    def run():
        script.say(f"{LONG}. " * 3)
        script.finish()

    script.on_execute = run
    ran = hive("exec", "web", "fix it", tty=True)
    hold(f"run-{width}", f"-- stdout\n{plain(ran.out)}-- stderr\n{plain(ran.err)}")


@pytest.mark.parametrize("width", [80, 140])
def test_help(hive, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    parts = [hive("--help").out, hive("exec", "--help").out, hive("project", "--help").out]
    hold(f"help-{width}", "\n".join(parts))


@pytest.mark.parametrize("width", [80, 140])
def test_tail(hive, script, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    script.daemon.publish(
        "project:p_1", "message", {"kind": "prompt", "text": LONG}, project="p_1", execution="x_1"
    )
    script.daemon.publish(
        "project:p_1", "stderr", {"text": "a warning"}, project="p_1", execution="x_1"
    )
    script.daemon.publish(
        "project:p_1", "execution.ended", kit_end(), project="p_1", execution="x_1"
    )
    ran = hive("tail", "--all", tty=True)
    hold(f"tail-{width}", plain(ran.out))


def kit_end():
    return {
        "state": "timed_out",
        "cause": "timeout",
        "message": "It took longer than 30m.",
        "usage": {},
        "duration_ms": 1_800_000,
    }

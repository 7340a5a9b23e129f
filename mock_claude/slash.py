"""Slash commands that are answered locally, without the model."""

import json
from typing import TYPE_CHECKING

from mock_claude import events, machine, money, project, sessions
from mock_claude.machine import Json

if TYPE_CHECKING:
    from mock_claude.turn import Turn


def run(turn: "Turn", name: str, rest: str) -> None:
    """Run a command to its result."""
    cli = turn.cli
    cli.turn_count += 1
    shown = {"clear": _clear, "cost": _cost, "compact": _compact, "config": _config}[name](
        turn, rest
    )
    if name != "compact":
        cli.emit(cli.init_event(turn.uuids))
    if shown is not None:
        _echo(turn, f"<local-command-stdout>{shown}</local-command-stdout>")
    _finish(turn, name, shown if name in ("cost", "config") else "")


def _clear(turn: "Turn", _rest: str) -> str | None:
    cli = turn.cli
    new_id = cli.ids.uuid()
    cli.emit(
        {
            "type": "conversation_reset",
            "new_conversation_id": new_id,
            "uuid": cli.ids.uuid(),
            "trigger": "clear",
            "user_message_uuid": turn.uuids[-1] if turn.uuids else cli.ids.uuid(),
            "timestamp": machine.iso(),
            "session_id": new_id,
        }
    )
    cli.session = sessions.Session(new_id, cli.cwd, is_kept=cli.session.is_kept)
    cli.system("background_tasks_changed", tasks=[])
    return None


def _cost(turn: "Turn", _rest: str) -> str | None:
    return f"Total cost: ${turn.cli.ledger.total_usd:.4f}"


def _config(turn: "Turn", rest: str) -> str | None:
    """`/config key=value` writes the user's settings file: a prompt can change configuration."""
    key, equals, value = rest.partition("=")
    if not equals:
        return "Usage: /config key=value"
    path = project.layer_path(turn.cli, "user")
    content = project.read_json(path)
    try:
        content[key.strip()] = json.loads(value)
    except ValueError:
        content[key.strip()] = value.strip()
    project.write_json(path, content)
    return f"Set {key.strip()} to {value.strip()}"


def _compact(turn: "Turn", _rest: str) -> str | None:
    cli = turn.cli
    cli.system("status", status="compacting")
    cli.ledger.charge(cli.model, 100, 15, None)
    cli.system("status", status=None, compact_result="success")
    cli.emit(cli.init_event(turn.uuids))
    kept, anchor = cli.ids.uuid(), cli.ids.uuid()
    segment = {"head_uuid": kept, "anchor_uuid": anchor, "tail_uuid": kept}
    cli.system(
        "compact_boundary",
        compact_metadata={
            "trigger": "manual",
            "pre_tokens": 108,
            "post_tokens": 2602,
            "cumulative_dropped_tokens": 0,
            "duration_ms": 20,
            "preserved_segment": segment,
            "preserved_messages": {"anchor_uuid": anchor, "uuids": [kept], "all_uuids": [kept]},
        },
        logical_parent_uuid=kept,
    )
    summary = (
        "This session is being continued from a previous conversation that ran out of context."
    )
    _say(turn, summary, isReplay=False, isSynthetic=True)
    return "Compacted "


def _echo(turn: "Turn", text: str) -> None:
    _say(turn, text, isReplay=True)


def _say(turn: "Turn", text: str, **more: object) -> None:
    cli = turn.cli
    cli.emit(
        {
            "type": "user",
            "message": {"role": "user", "content": text},
            "session_id": cli.session.id,
            "parent_tool_use_id": None,
            "uuid": cli.ids.uuid(),
            "timestamp": machine.iso(),
            **more,
        }
    )


def _finish(turn: "Turn", name: str, text: str | None) -> None:
    cli = turn.cli
    result: Json = {
        "is_error": False,
        "duration_api_ms": 0,
        "num_turns": 0,
        "stop_reason": None,
        "session_id": cli.session.id,
        "total_cost_usd": cli.ledger.total_usd,
        "usage": money.usage(0, 0),
        "modelUsage": cli.ledger.report(),
        "permission_denials": [],
        "fast_mode_state": "off",
        "fast_mode_disabled_reason": "sdk_opt_in_required",
        "subagent_stats": events.subagent_stats(cli.spawned),
        "safety_stops": 0,
        "subtype": "success",
        "result": text or "",
        "local_command": name,
        "type": "result",
        "duration_ms": int((machine.now() - turn.started) * 1000),
        "uuid": cli.ids.uuid(),
        "queued_turn_count": len(cli.queue),
        "result_index": cli.result_count,
        "model_usage_since_last_result": cli.ledger.report_since_result(),
    }
    cli.emit(result)
    cli.result_count += 1
    cli.exit_code = 0

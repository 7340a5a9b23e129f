"""The events on stdout, as the real CLI shapes them. Builders only: no state, no output."""

import os

from mock_claude import VERSION, catalog, machine
from mock_claude.machine import Json


def init(facts: Json) -> Json:
    """`system/init`; `facts` overrides and completes what is fixed."""
    cwd = facts["cwd"]
    event: Json = {
        "type": "system",
        "subtype": "init",
        "cwd": cwd,
        "session_id": facts["session_id"],
        "tools": facts["tools"],
        "mcp_servers": facts["mcp_servers"],
        "model": facts["model"],
        "permissionMode": facts["mode"],
        "slash_commands": list(catalog.COMMANDS),
        "terminal_slash_commands": catalog.TERMINAL_COMMANDS,
        "apiKeySource": "ANTHROPIC_API_KEY" if machine.env("ANTHROPIC_API_KEY") else "none",
        "claude_code_version": VERSION,
        "output_style": "default",
        "agents": [*catalog.AGENTS, *facts["agents"]],
        "skills": catalog.SKILLS,
        "plugins": catalog.PLUGINS,
        "capabilities": catalog.CAPABILITIES,
        "analytics_disabled": True,
        "product_feedback_disabled": True,
        "served_by_anthropic": False,
        "uuid": facts["uuid"],
        "memory_paths": {"auto": os.path.join(machine.project_dir(cwd), "memory") + "/"},
        "original_cwd": cwd,
        "additional_directories": facts["additional_directories"],
        "messaging_socket_path": os.path.join(
            machine.temp_dir(), "cc-socks", f"{os.getpid()}.sock"
        ),
        "fast_mode_state": "off",
        "fast_mode_disabled_reason": "sdk_opt_in_required",
        "per_turn_effort_active": True,
        "ultrathink_available": False,
        "ultrathink_typed_raises": False,
        "view_mode": "default",
    }
    if facts["user_message_uuids"]:
        event["user_message_uuids"] = facts["user_message_uuids"]
    return event


def api_usage(output_tokens: int = 1) -> Json:
    """Usage as the API streams it."""
    return {
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def api_message(message_id: str, model: str, content: list[Json]) -> Json:
    """A message of the API."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": api_usage(),
    }


def synthetic_message(message_id: str, text: str) -> Json:
    """The message the CLI writes itself when the API failed."""
    return {
        "diagnostics": None,
        "id": message_id,
        "container": None,
        "model": "<synthetic>",
        "role": "assistant",
        "stop_details": None,
        "stop_reason": "stop_sequence",
        "stop_sequence": "",
        "type": "message",
        "usage": {
            "output_tokens_details": None,
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
            "service_tier": None,
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
            "inference_geo": None,
            "iterations": None,
            "speed": None,
            "fallback_credit": None,
        },
        "content": [{"type": "text", "text": text}],
        "context_management": None,
    }


def subagent_stats(spawned: dict[str, int]) -> Json:
    """The sub agent counters of a result; they run over the whole process."""
    total = sum(spawned.values())
    return {
        "spawned": total,
        "requested": {**spawned, "unset": 0},
        "started_in_background": spawned["background"],
        "max_depth": min(total, 1),
        "spawned_by_subagents": 0,
        "completed": total,
        "failed": 0,
        "killed": {"parent": 0, "user": 0, "system": 0},
        "refused": {"depth_limit": 0, "concurrency_limit": 0, "budget": 0},
        "by_type": {"general-purpose": total} if total else {},
    }


def refused_start(session_id: str, uuid: str, usage: Json, error: str) -> Json:
    """The result of a run that could not start."""
    return {
        "type": "result",
        "subtype": "error_during_execution",
        "duration_ms": 0,
        "duration_api_ms": 0,
        "is_error": True,
        "num_turns": 0,
        "stop_reason": None,
        "session_id": session_id,
        "total_cost_usd": 0,
        "usage": usage,
        "modelUsage": {},
        "permission_denials": [],
        "uuid": uuid,
        "errors": [error],
        "result_index": 0,
    }

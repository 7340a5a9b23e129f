"""Fixed lists of the real CLI: tools, commands, models and prices. Data only."""

from mock_claude.machine import Json

TOOLS = [
    "Task",
    "Bash",
    "CronCreate",
    "CronDelete",
    "CronList",
    "Edit",
    "EnterWorktree",
    "ExitWorktree",
    "ListAgents",
    "Monitor",
    "NotebookEdit",
    "Read",
    "ReportFindings",
    "ScheduleWakeup",
    "SendMessage",
    "Skill",
    "TaskStop",
    "ToolSearch",
    "WebFetch",
    "WebSearch",
    "Workflow",
    "Write",
]
INTERACTIVE = ("AskUserQuestion", "EnterPlanMode", "ExitPlanMode")
SKILLS = [
    "deep-research",
    "dataviz",
    "update-config",
    "verify",
    "debug",
    "code-review",
    "simplify",
    "batch",
    "fewer-permission-prompts",
    "doctor",
    "loop",
    "claude-api",
    "workflow-authoring",
    "run",
    "run-skill-generator",
    "plugin-authoring",
]
COMMANDS = (
    *SKILLS,
    *[
        "agents",
        "auto-mode-setup",
        "autocompact",
        "clear",
        "color",
        "compact",
        "config",
        "output-style",
        "context",
        "effort",
        "fast",
        "focus",
        "heapdump",
        "init",
        "mcp",
        "model",
        "__remote-workflow",
        "workflow-launch-exec",
        "reload-plugins",
        "reload-skills",
        "rename",
        "security-review",
        "usage",
        "insights",
        "recap",
        "goal",
        "list-agents",
        "team-onboarding",
    ],
)
TERMINAL_COMMANDS = ["doctor", "color", "focus", "reload-plugins"]
AGENTS = ["claude", "Explore", "general-purpose", "Plan", "statusline-setup"]
OUTPUT_STYLES = ["default", "Proactive", "Concise", "Explanatory", "Learning"]
EFFORTS = ["low", "medium", "high", "xhigh", "max"]
MODES = ("acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan")
INITIALIZE_CAPABILITIES = [
    "ui_surface_v1",
    "mcp_call_result_not_for_model_v1",
    "mcp_call_check_permissions_v1",
    "voice_call_talk_line_v1",
    "ui_pane_widget_v1",
    "reload_plugins_refuse_if_busy_v1",
    "get_usage_detached_v1",
]
CAPABILITIES = [
    "interrupt_receipt_v1",
    "interrupt_cancel_queued_v1",
    "interrupt_send_now_v1",
    "interrupt_requeue_taken_v1",
    "msg_lifecycle_v1",
    "request_marker_lists_v1",
    "ask_user_question_unanswered_v1",
    "lifecycle_wakeup_source_v1",
    "sdk_mcp_tools_list_changed",
    "sdk_mcp_manifests",
    "mcp_read_resource_v1",
    "mcp_tool_ui_meta_v1",
    "ui_surface_v1",
    "mcp_call_result_not_for_model_v1",
    "mcp_call_check_permissions_v1",
    "voice_call_talk_line_v1",
    "withdrawn_files_note_v2",
    "ui_pane_widget_v1",
    "reload_plugins_refuse_if_busy_v1",
    "get_usage_detached_v1",
    "silent_resend_files_v1",
]
PLUGINS = [
    {"name": name, "path": "builtin", "source": f"{name}@builtin"}
    for name in ("cc-plugin-agents-md", "cc-plugin-privacy", "cc-plugin-plugin-authoring")
]

# alias -> full name; dollars per million input and output tokens by a word of the full name.
ALIASES = {
    "default": "claude-opus-5-5",
    "opus": "claude-opus-5-5",
    "sonnet": "claude-sonnet-5-5",
    "haiku": "claude-haiku-5-5",
    "fable": "claude-fable-5-2",
}
PRICES = {"opus": (4.0, 20.0), "sonnet": (2.0, 10.0), "haiku": (0.1, 0.5), "fable": (8.0, 40.0)}
LABELS = {"opus": "Opus 5.5", "sonnet": "Sonnet 5.5", "haiku": "Haiku 5.5", "fable": "Fable 5.2"}


def family(model: str) -> str:
    """The word of a model's name that decides its price; unknown models count as opus."""
    return next((word for word in PRICES if word in model), "opus")


def resolve_model(name: str) -> str:
    """The full name for an alias; other names are passed on."""
    return ALIASES.get(name, name)


def is_known_model(model: str) -> bool:
    """Whether the pretended API knows the model."""
    return model.startswith("claude-")


def price_usd(model: str, input_tokens: int, output_tokens: int) -> float:
    """What a call costs by list price."""
    per_input, per_output = PRICES[family(model)]
    return (input_tokens * per_input + output_tokens * per_output) / 1_000_000


def model_choices() -> list[Json]:
    """The models as the answer to `initialize` lists them."""
    return [
        {
            "value": alias,
            "resolvedModel": full,
            "displayName": "Default (recommended)" if alias == "default" else alias.capitalize(),
            "description": LABELS[family(full)],
            "supportsEffort": True,
            "supportedEffortLevels": EFFORTS,
            "supportsAdaptiveThinking": True,
            "supportsFastMode": True,
            "supportsAutoMode": True,
            "supportsThinkingOff": False,
        }
        for alias, full in ALIASES.items()
    ]

"""Putting the process together from flags, environment and settings."""

import os

from mock_claude import catalog, control, flags, ids, machine, mcp, project, wire
from mock_claude.cli import Cli
from mock_claude.flags import Options


def build(options: Options, argv: list[str]) -> Cli:
    """The process, ready to run."""
    seed = machine.env("MOCK_CLAUDE_SEED")
    cwd = os.getcwd()
    cli = Cli(options, wire.Wire(), ids.Ids(int(seed) if seed.isdigit() else None), cwd)
    cli.argv = argv
    cli.on_control = control.handle
    cli.model = catalog.resolve_model(_model(options))
    cli.is_model_named = bool(options.value("model") or machine.env("ANTHROPIC_MODEL"))
    cli.system_prompts = {
        "system_prompt": _text(options, "system-prompt"),
        "append_system_prompt": _text(options, "append-system-prompt"),
    }
    mode = options.value("permission-mode", "default")
    cli.mode = "default" if mode == "manual" else mode
    if options.has("dangerously-skip-permissions"):
        cli.mode = "bypassPermissions"
    cli.settings = flags.settings(options)
    cli.rules["allow"] += options.many("allowedTools")
    cli.rules["deny"] += options.many("disallowedTools")
    given = options.values.get("add-dir", [])
    cli.directories = [path for path in given if os.path.isdir(path)]
    project.load(cli)
    cli.run_command_hooks = project.run_hooks
    servers = mcp.wanted(cli).values()
    cli.has_host_servers = any(spec.get("type") == "sdk" for spec in servers)
    cli.on_initialize = _connect_host_servers
    cli.on_first_turn = _greet
    return cli


def _connect_host_servers(cli: Cli) -> None:
    mcp.connect(cli, in_host=True)


def _greet(cli: Cli) -> None:
    if mcp.wanted(cli):
        mcp.connect(cli, in_host=False)
    if cli.redirected_to:
        from mock_claude import canary  # an import that only trusted traps pay for

        canary.sing(cli.redirected_to)
    how = "resume" if cli.options.has("resume") or cli.options.has("continue") else "startup"
    cli.hook("SessionStart", {"source": how})


def _model(options: Options) -> str:
    login = "sonnet" if machine.env("CLAUDE_CODE_OAUTH_TOKEN") else "opus"
    return options.value("model") or machine.env("ANTHROPIC_MODEL") or login


def _text(options: Options, name: str) -> str:
    """What a flag and its form that names a file say together."""
    texts = [options.value(name)] if options.value(name) else []
    if path := options.value(f"{name}-file"):
        try:
            with open(path, encoding="utf-8") as file:
                texts.append(file.read())
        except (OSError, ValueError) as error:
            machine.complain(f"mock_claude: {error}")
    return "\n".join(texts)

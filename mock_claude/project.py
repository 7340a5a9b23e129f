"""What the user's and the project's files bring in: settings, rules, hooks, variables, @files.

Invariant: nothing of a layer is read, and so nothing of it runs, unless the setting sources name
it. Tests of project trust rely on that.
"""

import json
import os
import select
from contextlib import suppress

from mock_claude import catalog, machine, permissions
from mock_claude.bash import become_plain
from mock_claude.cli import Cli
from mock_claude.machine import Json

ATTACHED_LIMIT = 80
HOOK_LIMIT_S = 60.0
BLOCKING_EXIT_CODE = 2


def sources(cli: Cli) -> list[str]:
    """The layers to read: all by default, none with `--setting-sources ""`."""
    given = cli.options.values.get("setting-sources")
    if cli.options.has("bare") or cli.options.has("safe-mode"):
        return []
    if given is None:
        return ["user", "project", "local"]
    return [name for name in given[-1].replace(" ", "").split(",") if name]


def layer_path(cli: Cli, source: str) -> str:
    """The settings file of a layer."""
    if source == "user":
        return os.path.join(machine.config_dir(), "settings.json")
    name = "settings.json" if source == "project" else "settings.local.json"
    return os.path.join(cli.cwd, ".claude", name)


def load(cli: Cli) -> None:
    """Read the layers and let them act on the process."""
    for source in sources(cli):
        layer = read_json(layer_path(cli, source))
        if source == "project":
            _drop_unaccepted(cli, layer)
        _apply(cli, layer)
    _apply(cli, cli.settings)


def _drop_unaccepted(cli: Cli, layer: Json) -> None:
    """What a repository allows holds only where its trust dialog was accepted; all else of it holds."""
    known = read_json(os.path.join(machine.env("HOME"), ".claude.json")).get("projects") or {}
    if (known.get(cli.cwd) or {}).get("hasTrustDialogAccepted") is True:
        return
    rules = layer.get("permissions") or {}
    if ignored := rules.pop("allow", None):
        entries = "entry" if len(ignored) == 1 else "entries"
        machine.complain(
            f"Ignoring {len(ignored)} permissions.allow {entries} from .claude/settings.json: this "
            "workspace has not been trusted."
        )


def read_json(path: str) -> Json:
    """The object in a file; {} when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _apply(cli: Cli, layer: Json) -> None:
    rules = layer.get("permissions") or {}
    for side in ("allow", "deny"):
        cli.rules[side] += [rule for rule in rules.get(side, []) if isinstance(rule, str)]
    cli.directories += rules.get("additionalDirectories", [])
    mode = rules.get("defaultMode")
    if mode in catalog.MODES and not cli.options.has("permission-mode"):
        cli.mode = mode if cli.mode == "default" else cli.mode
    if layer.get("model") and not cli.options.has("model"):
        cli.model = catalog.resolve_model(str(layer["model"]))
        cli.is_model_named = True
    url = (layer.get("env") or {}).get("ANTHROPIC_BASE_URL")
    cli.redirected_to = str(url) if url else cli.redirected_to
    machine.ENV.update({str(name): str(value) for name, value in (layer.get("env") or {}).items()})
    if not layer.get("disableAllHooks"):
        for name, entries in (layer.get("hooks") or {}).items():
            cli.command_hooks.setdefault(name, []).extend(entries)


def rule_text(rule: Json) -> str:
    """A rule of a suggestion in the notation of settings."""
    content = rule.get("ruleContent")
    return f"{rule.get('toolName')}({content})" if content else str(rule.get("toolName"))


def store_rules(cli: Cli, update: Json) -> None:
    """Write accepted rules into the project's local settings, as the real CLI does."""
    path = layer_path(cli, "local")
    content = read_json(path)
    side = str(update.get("behavior", "allow"))
    rules = content.setdefault("permissions", {}).setdefault(side, [])
    rules += [rule_text(rule) for rule in update.get("rules", [])]
    write_json(path, content)


def write_json(path: str, content: Json) -> None:
    """Write a settings file; one that cannot be written is reported on stderr."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
    except OSError as error:
        machine.complain(f"mock_claude: {error}")


# -- hooks that are commands


def run_hooks(cli: Cli, name: str, fields: Json, matcher: str) -> Json:
    """Run the command hooks of this name; what the last of them said, or {}."""
    said: Json = {}
    for entry in cli.command_hooks.get(name, []):
        wanted = entry.get("matcher")
        if wanted and wanted != "*" and matcher and matcher not in wanted.split("|"):
            continue
        for hook in entry.get("hooks", []):
            if hook.get("type", "command") == "command" and hook.get("command"):
                said = _run_hook(cli, name, fields, hook) or said
    return said


def _run_hook(cli: Cli, name: str, fields: Json, hook: Json) -> Json:
    source = fields.get("source")
    shown = f"{name}:{source}" if source else name
    tells = name == "SessionStart" or cli.options.has("include-hook-events")
    facts = {"hook_id": cli.ids.uuid(), "hook_name": shown, "hook_event": name}
    if tells:
        cli.system("hook_started", **facts)
    given = {"session_id": cli.session.id, "cwd": cli.cwd, "hook_event_name": name, **fields}
    limit_s = min(float(hook.get("timeout", HOOK_LIMIT_S)), HOOK_LIMIT_S)
    code, output = run_command(cli, str(hook["command"]), json.dumps(given), limit_s)
    if tells:
        outcome = "success" if code == 0 else "error"
        told = {"output": output, "stdout": output, "stderr": "", "exit_code": code}
        cli.system("hook_response", **facts, **told, outcome=outcome)
    if code == BLOCKING_EXIT_CODE:
        denied = {"permissionDecision": "deny", "permissionDecisionReason": output.strip()}
        return {"hookSpecificOutput": denied}
    try:
        answer = json.loads(output)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def run_command(cli: Cli, command: str, given: str, limit_s: float) -> tuple[int, str]:
    """Run a shell command with text on stdin; its exit code and output."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    environment = {**machine.child_env(cli.session.id), "CLAUDE_PROJECT_DIR": cli.cwd}
    pid = os.fork()
    if not pid:
        try:
            become_plain()
            for source, target in ((in_read, 0), (out_write, 1), (out_write, 2)):
                os.dup2(source, target)
            os.closerange(3, 64)
            os.chdir(cli.cwd)
            os.execve("/bin/sh", ["/bin/sh", "-c", command], environment)  # noqa: S606
        finally:
            os._exit(127)
    os.close(in_read)
    os.close(out_write)
    with suppress(BrokenPipeError):
        os.write(in_write, given.encode()[:60_000])
    os.close(in_write)
    output = _read_until_end(out_read, limit_s)
    if output is None:
        os.kill(pid, 9)
    os.close(out_read)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), (output or b"").decode("utf-8", "replace")


def _read_until_end(fd: int, limit_s: float) -> bytes | None:
    data, deadline = b"", machine.now() + limit_s
    while (left := deadline - machine.now()) > 0:
        if not select.select([fd], [], [], left)[0]:
            return None
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            return data
        data += chunk
    return None


# -- @files


def attach(cli: Cli, prompt: str) -> list[str]:
    """Read the files that `@path` names, as far as the rules allow; a note about each."""
    notes = []
    for word in prompt.split():
        name = word[1:].rstrip(".,;:!?)") if word.startswith("@") else ""
        path = os.path.normpath(os.path.join(cli.cwd, os.path.expanduser(name)))
        if not name or not os.path.isfile(path):
            continue
        if _is_denied(cli, path):
            notes.append(f"{name} (not read: denied by a rule)")
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            head = file.read(ATTACHED_LIMIT).strip()
        notes.append(f'{name} ("{head}")')
    return notes


def _is_denied(cli: Cli, path: str) -> bool:
    call = {"file_path": path}
    real = {"file_path": os.path.realpath(path)}
    return any(
        permissions.matches(rule, "Read", asked, cli.cwd)
        for rule in cli.rules["deny"]
        for asked in (call, real)
    )

"""The tools: what a call really does, and how its result looks.

A tool gets its input after all permission questions. It must not decide about permissions.
"""

import os
from collections.abc import Callable

from mock_claude import background, machine
from mock_claude.bash import OUTPUT_LIMIT, PREVIEW, Command
from mock_claude.calls import Call, Outcome, ToolFailed, failed
from mock_claude.cli import Cli, Interrupted, Signalled
from mock_claude.machine import Json

# -- Bash


def run_bash(cli: Cli, call: Call) -> Outcome:
    """Run the command and wait for it. Raises Signalled and Interrupted after killing it."""
    command = str(call.input.get("command", ""))
    words = command.split()
    if len(words) == 2 and words[0] == "sleep":
        return failed("Blocked: standalone sleep. Use run_in_background or wait for a condition.")
    running = Command(cli, command, "b" + cli.ids.hex(8))
    if call.input.get("run_in_background") and background.is_possible():
        return background.send(cli, call, running)
    try:
        if not _watch(cli, call, running):
            return _timed_out(cli, call, running)
    except (Interrupted, Signalled):
        running.kill()
        raise
    return _finish_bash(cli, running, command)


def _watch(cli: Cli, call: Call, running: Command) -> bool:
    limit_ms = call.input.get("timeout") or machine.env_number("BASH_DEFAULT_TIMEOUT_MS", 120_000)
    deadline = running.started + float(limit_ms) / 1000
    told_after_s, beats, task = call.heartbeat_s / 10, 0, Json()
    while True:
        marks = [deadline, running.started + (beats + 1) * call.heartbeat_s]
        if not task:
            marks.append(running.started + told_after_s)
        if cli.wait(max(0.0, min(marks) - machine.now()), running.poll):
            break
        elapsed = machine.now() - running.started
        if machine.now() >= deadline:
            return False
        if not task and elapsed >= told_after_s:
            task = _tell_started(cli, call)
        if elapsed >= (beats + 1) * call.heartbeat_s:
            _tell_progress(cli, call, beats, elapsed)
            beats += 1
    if task:
        summary = task.pop("description")
        cli.system("task_notification", **task, status="completed", output_file="", summary=summary)
    return True


def _tell_started(cli: Cli, call: Call) -> Json:
    description = call.input.get("description", "Run a command")
    task = {"task_id": "b" + cli.ids.hex(8), "run_id": cli.ids.run(), "tool_use_id": call.id}
    task["description"] = description
    cli.system("task_started", **task, is_backgrounded=False, task_type="local_bash")
    return task


def _tell_progress(cli: Cli, call: Call, beats: int, elapsed_s: float) -> None:
    cli.emit(
        {
            "type": "tool_progress",
            "tool_use_id": f"{call.id}-heartbeat-{beats}",
            "tool_name": call.name,
            "parent_tool_use_id": call.id,
            "elapsed_time_seconds": int(elapsed_s),
            "heartbeat": True,
            "session_id": cli.session.id,
            "uuid": cli.ids.uuid(),
        }
    )


def _timed_out(cli: Cli, call: Call, running: Command) -> Outcome:
    if machine.env("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS") == "1":
        seconds = round(machine.now() - running.started)
        running.kill()
        return failed(f"Exit code 143\nCommand timed out after {seconds}s")
    return background.send(cli, call, running)


def _finish_bash(cli: Cli, running: Command, command: str) -> Outcome:
    text = running.output()
    if running.exit_code:
        body = f"\n{text}" if text else ""
        return failed(f"Exit code {running.exit_code}{body}")
    result: Json = {
        "stdout": text[:OUTPUT_LIMIT],
        "stderr": "",
        "interrupted": False,
        "isImage": False,
        "noOutputExpected": command.split()[:1] == ["touch"],
    }
    content = text or "(Bash completed with no output)"
    if len(text) > OUTPUT_LIMIT:
        size = os.path.getsize(running.output_path)
        kept = _keep_output(cli, running.output_path)
        result |= {"persistedOutputPath": kept, "persistedOutputSize": size}
        content = (
            f"<persisted-output>\nOutput too large ({size / 1024:.1f}KB). "
            f"Full output saved to: {kept}\n\nPreview (first 2KB):\n"
            f"{text[:PREVIEW]}\n...\n</persisted-output>"
        )
    return Outcome(content, result, is_error=False)


def _keep_output(cli: Cli, path: str) -> str:
    """Copy a long output to where the session keeps it; where it is now."""
    import shutil

    folder = os.path.join(machine.project_dir(cli.cwd), cli.session.id, "tool-results")
    kept = os.path.join(folder, os.path.basename(path).removesuffix(".output") + ".txt")
    try:
        machine.make_private_dir(folder)
        shutil.copyfile(path, kept)
    except OSError:
        return path
    return kept


# -- files


def _path(cli: Cli, call: Call) -> str:
    name = call.input.get("file_path")
    if not isinstance(name, str) or not name:
        raise ToolFailed("InputValidationError: The required parameter `file_path` is missing")
    return os.path.join(cli.cwd, name)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise ToolFailed(f"{error.strerror}: {path}") from None


def _write_text(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ToolFailed(f"{error.strerror}: {path}") from None


def run_write(cli: Cli, call: Call) -> Outcome:
    """Create or replace a file."""
    path, text = _path(cli, call), str(call.input.get("content", ""))
    name = call.input["file_path"]
    before = _read_text(path) if os.path.exists(path) else None
    _write_text(path, text)
    verb = "created" if before is None else "updated"
    content = (
        f"File {verb} successfully at: {name} (file state is current in your context — no need to "
        "Read it back)"
    )
    return Outcome(
        content,
        {
            "type": "create" if before is None else "update",
            "filePath": name,
            "content": text,
            "structuredPatch": [],
            "originalFile": before,
            "userModified": False,
        },
    )


def run_edit(cli: Cli, call: Call) -> Outcome:
    """Replace a string in a file."""
    path = _path(cli, call)
    old, new = str(call.input.get("old_string", "")), str(call.input.get("new_string", ""))
    before = _read_text(path)
    if not old or old not in before:
        raise ToolFailed(f"String to replace not found in file.\nString: {old}")
    everywhere = bool(call.input.get("replace_all"))
    _write_text(path, before.replace(old, new, -1 if everywhere else 1))
    name = call.input["file_path"]
    return Outcome(
        f"The file {name} has been updated successfully.",
        {
            "filePath": name,
            "oldString": old,
            "newString": new,
            "originalFile": before,
            "structuredPatch": [],
            "userModified": False,
            "replaceAll": everywhere,
        },
    )


def run_read(cli: Cli, call: Call) -> Outcome:
    """Show a file with line numbers."""
    path = _path(cli, call)
    text = _read_text(path)
    lines = text.splitlines()
    shown = "\n".join(f"{number}\t{line}" for number, line in enumerate(lines, 1))
    file = {
        "filePath": path,
        "content": text,
        "numLines": len(lines),
        "startLine": 1,
        "totalLines": len(lines),
    }
    return Outcome(shown, {"type": "text", "file": file})


# -- questions


def run_question(_cli: Cli, call: Call) -> Outcome:
    """Report the answers that rode in with the permission."""
    answers = call.input.get("answers")
    result = {"questions": call.input.get("questions", []), "answers": answers or {}}
    if not answers:
        return Outcome("The user did not answer the questions.", result)
    said = ", ".join(f'"{question}"="{answer}"' for question, answer in answers.items())
    text = f"Your questions have been answered: {said}. "
    return Outcome(text + "You can now continue with these answers in mind.", result)


def run_exit_plan(cli: Cli, call: Call) -> Outcome:
    """Leave plan mode."""
    cli.mode = "default"
    cli.system("status", status=None, permissionMode=cli.mode)
    result = {
        "plan": call.input.get("plan"),
        "isAgent": False,
        "filePath": os.path.join(machine.config_dir(), "plans", "plan-it-woolly-moth.md"),
    }
    return Outcome("User has approved exiting plan mode. You can now proceed.", result)


def run_enter_plan(cli: Cli, _call: Call) -> Outcome:
    """Enter plan mode."""
    cli.mode = "plan"
    cli.system("status", status=None, permissionMode=cli.mode)
    return Outcome("Entered plan mode.", {"message": "Entered plan mode."})


def run_other(cli: Cli, call: Call) -> Outcome:
    """Tools of MCP servers, and tools that the mock knows by name only."""
    if call.name.startswith("mcp__"):
        from mock_claude import mcp

        return mcp.call(cli, call.name, call.input)
    return Outcome(f"{call.name} completed", f"{call.name} completed")


RUNNERS: dict[str, Callable[[Cli, Call], Outcome]] = {
    "Bash": run_bash,
    "Write": run_write,
    "Edit": run_edit,
    "Read": run_read,
    "AskUserQuestion": run_question,
    "ExitPlanMode": run_exit_plan,
    "EnterPlanMode": run_enter_plan,
}

"""The hot commands (`ps`, `health`, `kill`, `exec --detach`) without Typer, Rich or a client library.

Takes only command lines it understands wholly; everything else, and every error, is left to the full
CLI, whose words are the same because the columns and the wire are the same.
"""

from __future__ import annotations

import os
import sys

from hivectl.cli import grammar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

lost_kill: list[str] | None = None
"""What a kill was to stop that was sent here, and whose answer was lost with the connection."""


class OutputLost(Exception):  # noqa: N818  it names what happened
    """The answer could not be written; `args[0]` is the HiveError that says so."""


def run(arguments: list[str]) -> int | None:
    """The exit code, or None when this is not for here (and nothing was done)."""
    global lost_kill  # noqa: PLW0603  what the full CLI must know, in the same process
    lost_kill = None
    if not arguments or arguments[0] not in grammar.HOT:
        return None
    request = _parse(arguments[0], arguments[1:])
    if request is None:
        return None
    from hivectl.client import thin

    targets: list[str] | None = None
    try:
        if first := request.get("first"):
            live = thin.call(os.environ, "execution.list", first)  # noqa: TID251
            targets = [item["execution"] for item in live["items"]]
        elif request["method"] == "kill":
            targets = [request["params"]["execution"]]
        result = thin.call(os.environ, request["method"], request["params"])  # noqa: TID251  settings cost 35 ms
    except thin.NotPlain:
        return None
    except thin.Refused as refused:
        return _report(refused.args[0], request)
    except (OSError, ConnectionError) as exc:
        if request["method"] == "kill":
            lost_kill = targets
            return None  # the full CLI asks again when the daemon is back: a kill is safe to repeat
        return _report_lost(exc, request)
    _print(request, result)
    return _exit_code(request["method"], result)


def _parse(name: str, words: list[str]) -> dict[str, Any] | None:
    """A request, or None for anything but the plainest form."""
    plain = grammar.split(name, words)
    if plain is None:
        return None
    options, others = plain
    output = "json" if "json" in options else options.get("output", "table")
    if output not in grammar.HOT_FORMATS or {"json", "output"} <= options.keys():
        return None
    request = _MAKERS[name](options, others)
    return None if request is None else {**request, "output": output}


def _ps(options: dict[str, str], words: list[str]) -> dict[str, Any] | None:
    from hivectl.cli import views

    if len(words) > 1:
        return None
    params: dict[str, Any] = {"limit": 200}
    if "everything" not in options:
        params["states"] = list(views.UNFINISHED)
    if words:
        params["project"] = words[0]
    return {
        "method": "execution.list",
        "params": params,
        "everything": "everything" in options,
    }


def _health(options: dict[str, str], words: list[str]) -> dict[str, Any] | None:  # noqa: ARG001
    return None if words else {"method": "health", "params": {}}


def _kill(options: dict[str, str], words: list[str]) -> dict[str, Any] | None:
    if len(words) != 1:
        return None
    first, target = grammar.kill(words[0])
    mode = "kill" if "force" in options else "terminate"
    params = {**target, "mode": mode, "reason": options.get("reason", "")}
    return {"method": "kill", "params": params, "first": first}


def _exec(options: dict[str, str], words: list[str]) -> dict[str, Any] | None:
    project = options.get("project")
    if project is None and len(words) == 2:
        project = words.pop(0)
    if "detach" not in options or project is None or len(words) != 1 or not words[0].strip():
        return None
    key = options.get("idempotency_key") or "cli_" + os.urandom(16).hex()
    params = {"project": project, "prompt": words[0], "idempotency_key": key}
    return {"method": "execute", "params": params}


_MAKERS = {"ps": _ps, "health": _health, "kill": _kill, "exec": _exec}


def _print(request: dict[str, Any], result: Any) -> None:
    from hivectl.cli import views

    output, method = request["output"], request["method"]
    if method == "execute":
        _say_notes(result)
    if output == "json":
        from hivectl.cli.jsonline import dump

        text = dump(result)
    elif method == "execute":
        text = result["execution"]
    elif method == "health":
        text = result["status"] if output == "name" else views.health(result, width=_width())
    elif method == "kill":
        names = [item["execution"] for item in result["executions"]]
        mode = request["params"]["mode"]
        text = "\n".join(names) if output == "name" else views.killed(result, mode)
    elif output == "name":
        text = views.names("execution", result["items"])
    elif not result["items"]:
        sys.stderr.write(views.nothing_runs(has_all=request["everything"]) + "\n")
        return
    else:
        text = views.table(
            "execution", result["items"], is_wide=False, now_s=_now_s(), width=_width()
        )
    try:
        sys.stdout.write(text if not text or text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        from hivectl.cli.screen import output_lost

        raise OutputLost(output_lost(exc)) from exc


def _exit_code(method: str, result: Any) -> int:
    if method == "kill":
        from hivectl.cli import views

        return 1 if result["survivors"] else 6 if views.unstopped(result) else 0
    return 1 if method == "health" and result["status"] == "failing" else 0


def _now_s() -> float:
    import time

    return time.time()  # noqa: TID251  the clock's module costs 3 ms


def _width() -> int | None:
    """Columns of the terminal, as shutil.get_terminal_size has them; None for a pipe."""
    if not sys.stdout.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")  # noqa: TID251
    if columns.isdigit() and int(columns) > 0:
        return max(int(columns), 20)
    try:
        return max(os.get_terminal_size(sys.stdout.fileno()).columns, 20)
    except OSError:
        return 80


def _say_notes(accepted: Any) -> None:
    """Why it may not start soon, and that it was accepted before."""
    notes = [f"note: {text}" for text in accepted.get("warnings", [])]
    if accepted.get("replayed"):
        notes.insert(0, f"this key was used before: {accepted['execution']}")
    if notes:
        from hivectl.cli.sanitize import sanitize

        sys.stderr.write("".join(f"{sanitize(text)}\n" for text in notes))


def _report(error: Any, request: dict[str, Any]) -> int | None:
    """Errors of requests that changed nothing are found again, and better told, by the full CLI."""
    if error["data"]["code"] == "PROJECT_NOT_FOUND":
        return None
    from hivectl.cli import failure
    from hivectl.client.errors import parse_error

    found = parse_error(error)
    failure.report(found, as_json=request["output"] == "json", color=_has_color())
    return int(failure.exit_code_of(found))


def _report_lost(exc: Exception, request: dict[str, Any]) -> int:
    from hivectl.cli import failure
    from hivectl.model.errors import HiveError

    error = HiveError("UNAVAILABLE", f"The daemon's answer did not come: {exc}.")
    failure.report(error, as_json=request["output"] == "json", color=_has_color())
    return int(failure.exit_code_of(error))


def _has_color() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")  # noqa: TID251

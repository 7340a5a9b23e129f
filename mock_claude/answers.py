"""What the pretended model does with a prompt: the steps of a script, played in order.

It must not know how events look on the wire.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mock_claude import catalog, failures, machine, scenario, structured
from mock_claude.calls import Call, Outcome
from mock_claude.machine import Json

if TYPE_CHECKING:
    from mock_claude.turn import Turn

SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
QUESTION = {
    "question": "Which colour do you want?",
    "header": "Colour",
    "multiSelect": False,
    "options": [
        {"label": "Red", "description": "warm"},
        {"label": "Blue", "description": "cold"},
    ],
}
DEFAULT_INPUTS: dict[str, Json] = {
    "Bash": {"command": "touch mock-permission.txt", "description": "Run a command"},
    "Write": {"file_path": "mock-permission.txt", "content": "written by mock_claude\n"},
    "Edit": {"file_path": "mock-permission.txt", "old_string": "written", "new_string": "edited"},
    "Read": {"file_path": "mock-permission.txt"},
    "AskUserQuestion": {"questions": [QUESTION]},
    "ExitPlanMode": {"plan": "1. look\n2. change"},
    "ask_human": {"question": "Which colour do you want?", "choices": ["Red", "Blue"]},
    "Agent": {
        "description": "Look around",
        "prompt": "Look around and report.",
        "subagent_type": "general-purpose",
        "run_in_background": False,
    },
}


class Script(NamedTuple):
    """What a turn plays: the prompt a person sees, what was attached, and the steps."""

    visible: str
    attached: list[str]
    steps: list[Json]


def prepare(turn: "Turn", script: Script) -> None:
    """Apply what holds for the whole turn, before anything is printed."""
    cli, steps = turn.cli, script.steps
    model = scenario.setting(steps, "model")
    if isinstance(model, str):
        turn.speech.model = model
    cost = scenario.setting(steps, "cost_usd")
    if isinstance(cost, int | float):
        turn.speech.cost_usd = float(cost)
    partial = scenario.setting(steps, "partial")
    if partial:
        turn.speech.partial = True
        turn.speech.pieces = 4 if partial is True else int(str(partial))
    code = scenario.setting(steps, "exit_code")
    if isinstance(code, int):
        cli.forced_exit_code = code
    ignored = scenario.setting(steps, "ignore_signals")
    names = {True: list(SIGNALS), "all": [*SIGNALS, "interrupt", "eof"]}.get(
        ignored if isinstance(ignored, bool | str) else False, ignored
    )
    if isinstance(names, list):
        cli.wire.ignore([SIGNALS[name] for name in names if name in SIGNALS])
        cli.interrupt_is_ignored = "interrupt" in names
        cli.eof_is_ignored = "eof" in names
    if scenario.setting(steps, "hang") == "start":
        cli.wait(None)


def perform(turn: "Turn", script: Script) -> None:
    """Play the steps, and close with an answer if none was given."""
    steps = list(script.steps) or [{}]
    while steps:
        _play(turn, script, steps.pop(0))
        steps += turn.take_injected()
    if turn.cli.options.has("json-schema") and turn.structured is None:
        structured.answer(turn, None)
    elif turn.needs_answer:
        turn.speech.text(default_text(turn, script), 0)
        turn.needs_answer = False
    if machine.env("CLAUDE_CODE_OAUTH_TOKEN") and not turn.cli.has_told_limit:
        _tell_limit(turn, failures.limit_info("allowed", 0))  # once for a subscription login


TROUBLES = frozenset({"error", "limit", "hang", "crash"})


def default_text(turn: "Turn", script: Script) -> str:
    """The answer when nobody said what to answer."""
    if turn.user_events:
        return "Done."
    words = script.visible.split()
    head = " ".join(words[:8]) + ("…" if len(words) > 8 else "")
    text = f'You said: "{head}". ' if words else "I did as directed. "
    for note in script.attached:
        text += f"Attached: {note}. "
    return text + "I am mock_claude, and all is well."


def _play(turn: "Turn", script: Script, step: Json) -> None:
    step = _without_past_trouble(turn, step)
    delay_s = float(step.get("delay_ms", 0)) / 1000
    _make_noise(turn, step)
    _hang_first(turn, step.get("hang"))
    _meet_trouble(turn, step)
    if step.get("think"):
        thought = step["think"] if isinstance(step["think"], str) else "Let me think about it."
        turn.speech.think(thought, delay_s)
    _speak_and_act(turn, script, step)
    _near_limit(turn, script, step)
    if step.get("hang") == "end":
        if turn.needs_answer:
            turn.speech.text(default_text(turn, script), delay_s)
        turn.speech.end("end_turn")
        turn.cli.wait(None)
    if step.get("crash"):
        turn.cli.wire.flush(5)
        name = step["crash"] if isinstance(step["crash"], str) else "SIGSEGV"
        number = signal.Signals[name]
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        turn.cli.wait(5)


def _without_past_trouble(turn: "Turn", step: Json) -> Json:
    """A step whose troubles were to come a few `times` only, and have: what a retry meets."""
    times = step.get("times")
    if times is None or turn.cli.session.prompts.count(turn.prompt) <= int(times):
        return step
    return {key: value for key, value in step.items() if key not in TROUBLES}


def _make_noise(turn: "Turn", step: Json) -> None:
    said = step.get("stderr")
    if isinstance(said, str):
        machine.complain(said)
    elif said:
        line = "internal trace " + "x" * 64
        machine.complain(
            "\n".join([line] * (int(said) // (len(line) + 1)) or [line])[: int(said) - 1]
        )
    if step.get("title"):
        turn.cli.session.title = str(step["title"])
        turn.cli.session.note("custom-title", customTitle=turn.cli.session.title)
    if step.get("spawn"):
        from mock_claude import trees

        trees.spawn(turn.cli, step["spawn"])
    if step.get("garbage"):
        from mock_claude import noise

        noise.spread(turn.cli, step["garbage"])


def _hang_first(turn: "Turn", hang: object) -> None:
    if hang is True or hang == "init" or (isinstance(hang, int | float) and hang):
        turn.speech.is_waiting_for_headers = True
        turn.cli.wait(None if hang is True or isinstance(hang, str) else float(hang))
        turn.speech.is_waiting_for_headers = False


# -- errors and limits


def _meet_trouble(turn: "Turn", step: Json) -> None:
    if step.get("limit"):
        given = step["limit"]
        info = failures.limit_info(given, float(step.get("resets_in_s", 3600)))
        if given not in ("warning", "allowed"):
            _tell_limit(turn, info)
            trimmed = {key: value for key, value in info.items() if key != "unifiedWindows"}
            turn.fail(failures.limit_trouble(info), api_error_params={"rate_limit_info": trimmed})
    given = step.get("error")
    if not given and not catalog.is_known_model(turn.speech.model):
        fields = {"model": turn.speech.model, "query_source": "sdk"}
        machine.complain(
            f"[claude-code:unrecognized_model] {json.dumps(fields, separators=(',', ':'))}"
        )
        given = "404"
    if given:
        trouble = failures.understand(given, turn.speech.model, step.get("retries"))
        if not retry(turn, trouble, step.get("retry_delay_ms")) and not trouble.recovers:
            turn.fail(trouble)


def _near_limit(turn: "Turn", script: Script, step: Json) -> None:
    """Warnings about a limit come after the answer."""
    given = step.get("limit")
    if given in ("warning", "allowed"):
        if turn.needs_answer:
            turn.speech.text(default_text(turn, script), 0)
            turn.needs_answer = False
        _tell_limit(turn, failures.limit_info(given, float(step.get("resets_in_s", 3600))))


def _tell_limit(turn: "Turn", info: Json) -> None:
    cli = turn.cli
    cli.has_told_limit = True
    event = {"type": "rate_limit_event", "rate_limit_info": info}
    cli.emit({**event, "uuid": cli.ids.uuid(), "session_id": cli.session.id})


def retry(turn: "Turn", trouble: failures.Trouble, delay_ms: object) -> bool:
    """Announce and wait out the retries; whether a fallback model took over after the second."""
    cli = turn.cli
    fallback = cli.options.value("fallback-model").partition(",")[0]
    for attempt in range(1, trouble.retries + 1):
        if attempt == 3 and fallback and trouble.failure.status == 529:
            _fall_back(turn, catalog.resolve_model(fallback))
            return True
        wait_ms = failures.retry_delay_ms(attempt, cli.ids.number())
        if isinstance(delay_ms, int | float):
            wait_ms = int(delay_ms)
        cli.system(
            "api_retry",
            attempt=attempt,
            max_retries=trouble.retries,
            retry_delay_ms=wait_ms,
            error_status=trouble.failure.status,
            error=trouble.failure.retry_error,
        )
        cli.wait(wait_ms / 1000)
    return False


def _fall_back(turn: "Turn", model: str) -> None:
    before = turn.speech.model
    turn.speech.model = model
    names = [catalog.LABELS[catalog.family(name)] for name in (model, before)]
    turn.cli.system(
        "model_fallback",
        trigger="overloaded",
        original_model=before,
        fallback_model=model,
        content=f"Switched to {names[0]} due to high demand for {names[1]}",
    )


# -- texts and tools


def _speak_and_act(turn: "Turn", script: Script, step: Json) -> None:
    delay_s = float(step.get("delay_ms", 0)) / 1000
    texts, answer = _texts(turn, step)
    rounds = _rounds(step)
    if not rounds and answer is not None:
        texts = [*texts[:-1], answer] if texts else [answer]
        answer = None
    size = int(step.get("bytes", 0))
    for index, words in enumerate(texts):
        if step.get("stamp"):  # of the moment of writing: the wait comes before it
            turn.speech.pause(delay_s)
        text = _pad(turn, _stamped(step, words), size)
        is_middle = step.get("hang") == "stream" and index == len(texts) // 2
        hang = (lambda: _hang(turn)) if is_middle else None
        turn.speech.text(text, 0 if step.get("stamp") else delay_s, hang)
        turn.needs_answer = False
    if step.get("hang") == "stream" and not texts and not rounds:
        turn.speech.text(default_text(turn, script), delay_s, lambda: _hang(turn))
    if step.get("events") == 0 and not rounds and answer is None:
        turn.speech.begin()
        turn.needs_answer = False
    for calls in rounds:
        act(turn, calls, delay_s)
    if answer is not None:
        turn.speech.text(answer, delay_s)
        turn.needs_answer = False


def _hang(turn: "Turn") -> None:
    turn.cli.wait(None)


def _texts(turn: "Turn", step: Json) -> tuple[list[str], str | None]:
    size = int(step.get("bytes", 0))
    answer = step.get("text")
    if "events" not in step:
        answer = _report(turn, step) if answer is None else str(answer)
        if answer is None and size:
            answer = ""
        return [], None if answer is None else _pad(turn, answer, size)
    count = int(step["events"])
    texts = [f"event {n + 1} of {count}" for n in range(count)]
    return texts, None if answer is None else _pad(turn, str(answer), size)


def _stamped(step: Json, text: str) -> str:
    return f"{text} at {time.monotonic():.6f}" if step.get("stamp") else text


def _pad(turn: "Turn", text: str, size: int) -> str:
    missing = size - len(text.encode("utf-8", "surrogatepass"))
    if missing <= 0:
        return text
    return f"{text} {turn.cli.ids.filler(missing - 1)}" if text else turn.cli.ids.filler(missing)


def _report(turn: "Turn", step: Json) -> str | None:
    cli = turn.cli
    if step.get("memory"):
        earlier = [scenario.extract(text)[0] or text for text in cli.session.prompts[:-1]]
        lines = [f"{number}. {text}" for number, text in enumerate(earlier, 1)]
        return "\n".join([f"I remember {len(earlier)} earlier prompts:", *lines])
    if step.get("system"):
        return json.dumps({"model": turn.speech.model, **cli.system_prompts}, ensure_ascii=False)
    if step.get("env") or step.get("argv"):
        told: Json = {"argv": sys.argv[1:], "cwd": cli.cwd}
        if step.get("env"):
            told["env"] = sorted(machine.ENV)
        if isinstance(step.get("env"), list):
            told["values"] = {name: machine.ENV.get(name) for name in step["env"]}
        return json.dumps(told, ensure_ascii=False)
    return None


def _rounds(step: Json) -> list[list[Call]]:
    """The calls of a step, one list per API message; ids are filled in when they are made."""
    beat_s = float(step.get("heartbeat_s", 30))
    rounds = []
    given = step.get("tool") or []
    batch = [_call(item, beat_s) for item in (given if isinstance(given, list) else [given])]
    if batch:
        rounds.append(batch)
    for key, name in (
        ("permission", "Write"),
        ("ask", "AskUserQuestion"),
        ("ask_human", "ask_human"),
        ("plan", "ExitPlanMode"),
    ):
        if step.get(key):
            rounds.append([_sugar(key, name, step[key], beat_s)])
    if step.get("background"):
        command = step["background"] if isinstance(step["background"], str) else "sleep 1; echo 42"
        fields = {"description": "Run a command", "run_in_background": True}
        rounds.append([Call("", "Bash", {"command": command, **fields}, beat_s)])
    if step.get("subagent"):
        given = step["subagent"] if isinstance(step["subagent"], dict) else {}
        fields = {**DEFAULT_INPUTS["Agent"], "run_in_background": bool(given.get("background"))}
        rounds.append([Call("", "Agent", {**fields, "mock": given}, beat_s)])
    for number in range(int(step.get("turns", 1)) - 1):
        fields = {"command": f"echo {number}", "description": "Run a command"}
        rounds.append([Call("", "Bash", fields, beat_s)])
    if "structured" in step:
        rounds.append([Call("", "StructuredOutput", {"mock": step["structured"]}, beat_s)])
    return rounds


def _sugar(key: str, name: str, given: object, beat_s: float) -> Call:
    if key == "ask" and isinstance(given, list | dict):
        questions = given if isinstance(given, list) else given.get("questions", [given])
        return Call("", name, {"questions": questions}, beat_s)
    if key == "ask_human" and isinstance(given, str | dict):
        fields = {"question": given} if isinstance(given, str) else given
        return Call("", name, dict(fields), beat_s)
    if key == "plan" and isinstance(given, str):
        return Call("", name, {"plan": given}, beat_s)
    return _call(name if given is True else given, beat_s)


def _call(given: object, beat_s: float) -> Call:
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise scenario.ScenarioError(f"not a tool call: {given}")
    name = given["name"]
    fields = given.get("input")
    if fields is None:
        fields = DEFAULT_INPUTS.get(name, {})
    if name == "Bash":
        fields = {"description": "Run a command", **fields}
    return Call("", name, dict(fields), beat_s)


def act(turn: "Turn", calls: list[Call], delay_s: float) -> None:
    """Make the calls of one API message, then run them one after the other."""
    if calls[0].name == "StructuredOutput":
        structured.answer(turn, calls[0].input["mock"])
        return
    made = []
    for call in calls:
        if call.name == "ask_human":
            call = call._replace(name=turn.cli.mcp_name("ask_human"))  # noqa: PLW2901
        extra = call.input.pop("mock", None)
        made.append((call._replace(id=turn.cli.ids.tool_use()), extra))
        meta = turn.cli.tool_meta(made[-1][0].id, call.name)
        turn.speech.call(made[-1][0], delay_s, meta)
    turn.after_call("tool_use")
    for call, extra in made:
        turn.run_call(call._replace(input={**call.input, "mock": extra}) if extra else call)


def run_agent(turn: "Turn", call: Call) -> Outcome:
    """The Agent tool."""
    from mock_claude import agent

    return agent.run(turn, call)


TURN_TOOLS: dict[str, Callable[["Turn", Call], Outcome]] = {"Agent": run_agent}

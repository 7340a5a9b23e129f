"""The mock's events have the shapes of the recorded real ones.

Order of events, required keys, types of values, exit codes and usage errors are compared with
shapes.json. Keys the mock adds are allowed; keys it leaves out only as listed in IGNORED.
"""

import importlib.util
import json
import signal
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KNOWN = json.loads((HERE / "shapes.json").read_text())
RECORDINGS, SHAPES = KNOWN["recordings"], KNOWN["shapes"]
SPEC = importlib.util.spec_from_file_location("distil_shapes", HERE / "distil_shapes.py")
distil = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(distil)

# Required by the recordings, left out by the mock on purpose.
IGNORED = {
    "prompt_id",  # of hook callbacks
    "effort",  # of hook callbacks
}

BASH = {"name": "Bash", "input": {"command": "echo hi"}}
LONG = "python3 -c 'import time; time.sleep(30)'"
WRITE = {"name": "Write", "input": {"file_path": "out.txt", "content": "x\n"}}
FAST = {"retry_delay_ms": 1}
ALLOW = {"behavior": "allow", "updatedInput": {}}
DENY = {"behavior": "deny", "message": "The operator refused this command."}

# One prompt, no conversation: recording -> directive (None: no directive).
ALONE = {
    "stream-json-text": None,
    "json-format-verbose": None,
    "json-format": None,
    "tool-bash": {"events": 1, "tool": BASH},
    "tool-bash-failure": {
        "steps": [
            {"tool": {"name": "Bash", "input": {"command": "exit 3"}}},
            {"tool": "NoSuchTool"},
        ]
    },
    "tool-parallel": {"tool": [BASH, BASH]},
    "tool-long-running": {
        "heartbeat_s": 0.4,
        "tool": {"name": "Bash", "input": {"command": "sleep 0.6; true"}},
    },
    "permission-denied-headless": {"tool": WRITE},
    "permission-bypass": {"tool": WRITE},
    "ask-user-question-headless": {"ask": True},
    "thinking": {"think": True},
    "partial-messages": {
        "steps": [{"think": "The user wants a greeting.", "text": "Running it."}, {"tool": BASH}]
    },
    "api-400": {"error": "400"},
    "api-401": {"error": "401", **FAST},
    "api-no-credentials": {"error": "no_credentials"},
    "api-404-model": None,
    "api-prompt-too-long": {"error": "prompt_too_long"},
    "api-credit": {"error": "credit"},
    "api-429-exhausted": {"error": "429", **FAST},
    "api-529-recovered": {"error": {"kind": "529", "recovers": True}, **FAST},
    "api-500-exhausted": {"error": "500", **FAST},
    "api-connection-refused": {"error": "connection", **FAST},
    "model-fallback": {"error": "529", **FAST},
    "usage-limit": {"limit": True},
    "usage-warning": {"limit": "warning"},
    "max-turns": {"turns": 5},
    "max-budget": {"tool": BASH, "cost_usd": 6},
    "json-schema": {"structured": {"name": "Ada", "age": 36}},
    "json-schema-failed": {"structured": {"wrong": True}},
    "background-bash": {"background": "sleep 0.2; echo 42"},
    "subagent-foreground": {"subagent": True},
    "subagent-background": {"subagent": {"background": True}},
}


def words(text):
    """A prompt with a directive."""
    return "Say hello" if text is None else f"Do it mock: {json.dumps(text)}"


def relabel(events):
    """Labels in order, without the counting of streamed pieces, which is the mock's own."""
    labels = []
    for label in events:
        if label == "system:thinking_tokens" and "stream_event:message_start" in events:
            continue
        if labels and labels[-1] == label and label.startswith("stream_event"):
            continue
        labels.append(label)
    return labels


def faults(shape, value, where=""):
    """How a value lacks what a shape requires."""
    if shape == "0" or value is None or shape == "o":
        return []
    if isinstance(shape, str):
        is_kind = {
            "s": isinstance(value, str),
            "b": isinstance(value, bool),
            "n": isinstance(value, int | float) and not isinstance(value, bool),
        }[shape]
        return [] if is_kind else [f"{where}: wanted {shape}, got {value!r}"]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where}: wanted a list, got {value!r}"]
        return faults(shape[0], value[0], where + "[]") if shape and value else []
    if not isinstance(value, dict):
        return [f"{where}: wanted an object, got {value!r}"]
    if "*" in shape:
        return [fault for inner in value.values() for fault in faults(shape["*"], inner, where)]
    found = []
    for key, inner in shape.items():
        path = f"{where}/{key}".lstrip("/")
        if key in value:
            found += faults(inner, value[key], path)
        elif not any(path == name or path.endswith("/" + name) for name in IGNORED):
            found.append(f"{path}: missing")
    return found


def compare(name, events, exit_code):
    """Hold events and exit code against a recording."""
    recorded = RECORDINGS[name]
    wanted = [label for label, _shape in recorded["events"]]
    got = [distil.label_of(event) for event in events]
    assert relabel(got) == relabel(wanted)
    assert exit_code == recorded["exit_code"]
    by_label = {}
    for event in events:
        by_label.setdefault(distil.label_of(event), []).append(event)
    seen = {}
    for label, number in recorded["events"]:
        place = min(seen.get(label, 0), len(by_label[label]) - 1)
        seen[label] = place + 1
        assert faults(SHAPES[number], by_label[label][place]) == []


@pytest.mark.parametrize("name", sorted(ALONE))
def test_a_run_without_conversation_looks_as_recorded(desk, name):
    recorded = RECORDINGS[name]
    flags = [flag for flag in recorded["flags"] if flag != "-p"]
    code, stdout, stderr = desk.run("-p", words(ALONE[name]), *flags, **recorded["env"])
    events = distil.events_of(stdout)
    compare(name, events, code)
    assert stderr.strip() == recorded.get("stderr", "")


USAGE = [name for name in RECORDINGS if name.startswith("usage-errors")]


@pytest.mark.parametrize(
    "name", [*USAGE, "stream-json-without-verbose", "permission-bypass-root-refused"]
)
def test_a_refused_command_line_says_what_the_real_one_says(desk, name):
    if name == "permission-bypass-root-refused" and Path("/proc/self").stat().st_uid != 0:
        pytest.skip("only root is refused")
    recorded = RECORDINGS[name]
    prompts = {"usage-errors.7": "", "usage-errors.8": "   "}
    flags = [flag for flag in recorded["flags"] if flag not in ("-p", "", "   ")]
    prompt = prompts.get(name, "Hello")
    code, stdout, stderr = desk.run("-p", prompt, *flags, IS_SANDBOX="0")
    assert (code, stdout, stderr.strip()) == (1, "", recorded["stderr"])


CALC = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    made = {"initialize": {"capabilities": {}}, "tools/list": {"tools": [{"name": "add"}]}}
    total = sum(asked.get("params", {}).get("arguments", {}).values() or [0])
    made["tools/call"] = {"content": [{"type": "text", "text": str(total)}]}
    if "id" in asked:
        print(json.dumps({"id": asked["id"], "result": made[asked["method"]]}), flush=True)
"""


def test_a_tool_of_an_mcp_server_looks_as_recorded(desk):
    (desk.cwd / "calc.py").write_text(CALC)
    flags = [flag for flag in RECORDINGS["mcp-tool"]["flags"] if flag != "-p"]
    call = {"name": "mcp__calc__add", "input": {"a": 1, "b": 2}}
    running = desk.start("-p", words({"tool": call}), *flags, stdin="null")
    compare("mcp-tool", running.events, running.finish())
    statuses = [server["status"] for server in running.events[0]["mcp_servers"]]
    results = [event["tool_use_result"] for event in running.events if event["type"] == "user"]
    assert (statuses, results) == (["connected", "failed"], [[{"type": "text", "text": "3"}]])


# -- with a permission question


def converse(desk, name, prompt):
    """Start as recorded and send the prompt."""
    recorded = RECORDINGS[name]
    running = desk.start(*recorded["flags"], **recorded["env"])
    running.user(prompt)
    return running


PERMISSIONS = {
    "permission-stdio-allow": ({"tool": WRITE}, ALLOW),
    "permission-stdio-deny": ({"tool": WRITE}, DENY),
    "permission-stdio-deny-interrupt": ({"tool": WRITE}, {**DENY, "interrupt": True}),
    "exit-plan-mode-stdio": ({"plan": True}, ALLOW),
    "ask-user-question-stdio": ({"ask": True}, "answers"),
}


@pytest.mark.parametrize("name", sorted(PERMISSIONS))
def test_an_answered_question_looks_as_recorded(desk, name):
    directive, answer = PERMISSIONS[name]
    running = converse(desk, name, words(directive))
    request = running.until("control_request")
    if answer == "answers":
        given = {"answers": {"Which colour do you want?": "Blue"}}
        answer = {"behavior": "allow", "updatedInput": {**request["request"]["input"], **given}}
    running.answer(request, answer)
    compare(name, running.events, running.finish())


def test_an_error_reply_looks_as_recorded(desk):
    name = "permission-stdio-error-reply"
    running = converse(desk, name, words({"tool": WRITE}))
    request = running.until("control_request")
    reply = {"subtype": "error", "request_id": request["request_id"], "error": "handler failed"}
    running.send({"type": "control_response", "response": reply})
    compare(name, running.events, running.finish())


def test_end_of_input_during_a_question_looks_as_recorded(desk):
    name = "permission-stdio-eof"
    running = converse(desk, name, words({"tool": WRITE}))
    running.until("control_request")
    compare(name, running.events, running.finish())


def test_an_interrupt_during_a_question_looks_as_recorded(desk):
    name = "permission-stdio-interrupted"
    running = converse(desk, name, words({"tool": WRITE}))
    running.until("control_request")
    running.control("interrupt")
    running.until("result")
    compare(name, running.events, running.finish())


def test_two_questions_look_as_recorded_but_for_the_place_of_the_second_call(desk):
    name = "permission-stdio-two"
    touch = [{"name": "Bash", "input": {"command": f"touch a{n}"}} for n in (1, 2)]
    running = converse(desk, name, words({"tool": touch}))
    for _question in touch:
        running.answer(running.until("control_request"), ALLOW)
    code = running.finish()
    wanted = [label for label, _shape in RECORDINGS[name]["events"]]
    got = [distil.label_of(event) for event in running.events]
    wanted.remove("assistant:tool_use")
    got.remove("assistant:tool_use")
    wanted.remove("assistant:tool_use")
    got.remove("assistant:tool_use")
    assert (got, code) == (wanted, 0)
    assert (desk.cwd / "a2").exists()


# -- conversations


def test_control_requests_are_answered_as_recorded(desk):
    running = desk.start(*RECORDINGS["control-requests"]["flags"])
    running.control("initialize", hooks=None)
    running.control("set_permission_mode", mode="acceptEdits")
    running.control("set_model", model="sonnet")
    running.control("mcp_status")
    running.control("interrupt")
    running.control("set_permission_mode", mode="bogus")
    running.control("no_such_request")
    running.user("Say hello")
    running.until("result")
    compare("control-requests", running.events, running.finish())


def test_the_handshake_of_the_sdk_looks_as_recorded(desk):
    recorded = RECORDINGS["sdk-style"]
    running = desk.start(*recorded["flags"], **recorded["env"])
    running.control("initialize", hooks=None)
    running.user("Say hello")
    compare("sdk-style", running.events, running.finish())


def test_hooks_of_the_host_are_called_as_recorded(desk):
    running = desk.start(*RECORDINGS["hooks-callbacks"]["flags"])
    hooks = {
        "UserPromptSubmit": [{"matcher": None, "hookCallbackIds": ["hook_0"]}],
        "PreToolUse": [{"matcher": "Bash", "hookCallbackIds": ["hook_1"], "timeout": 30}],
        "Stop": [{"matcher": None, "hookCallbackIds": ["hook_2"]}],
    }
    running.control("initialize", hooks=hooks)
    running.user(words({"tool": BASH}))
    denied = {"permissionDecision": "deny", "permissionDecisionReason": "policy says no"}
    for answer in ({}, {"hookSpecificOutput": denied}, {}):
        running.answer(running.until("control_request", None), answer)
    running.until("result")
    compare("hooks-callbacks", running.events, running.finish())


def test_three_turns_look_as_recorded(desk):
    running = desk.start(*RECORDINGS["input-multi-turn"]["flags"])
    for text in ("My name is Ada", "What is my name?", "Thanks"):
        running.user(text)
        running.until("result")
    compare("input-multi-turn", running.events, running.finish())


def test_queued_messages_are_merged_as_recorded(desk):
    running = desk.start(*RECORDINGS["input-queued"]["flags"])
    uuids = [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)]
    running.user(words({"text": "one two three", "delay_ms": 600}), uuid=uuids[0])
    running.until("system", "init")
    running.user("second", uuid=uuids[1])
    running.user("third", uuid=uuids[2])
    running.until("result")
    assert running.until("result")["user_message_uuids"] == uuids[1:]
    code = running.finish()
    recorded = [label for label, _shape in RECORDINGS["input-queued"]["events"]]
    got = [distil.label_of(event) for event in running.events]
    assert sorted(got) == sorted(recorded)
    assert [label for label in got if label != "user:string"] == [
        label for label in recorded if label != "user:string"
    ]
    assert code == 0


def test_an_interrupted_stream_looks_as_recorded(desk):
    name = "interrupt-streaming"
    running = converse(desk, name, words({"text": "word " * 20, "delay_ms": 3000}))
    while running.next_event()["type"] != "stream_event":
        pass
    while running.next_event()["event"]["type"] != "content_block_delta":
        pass
    running.control("interrupt")
    running.until("result")
    running.user("Are you there?")
    running.until("result")
    compare(name, running.events, running.finish())


def test_an_interrupted_tool_looks_as_recorded(desk, eventually, probe):
    name = "interrupt-tool"
    command = f"sleep {probe.mark}; true"
    running = converse(desk, name, words({"tool": {"name": "Bash", "input": {"command": command}}}))
    eventually(probe.pids)
    running.control("interrupt")
    running.until("result")
    compare(name, running.events, running.finish())
    probe.is_gone()


def test_compaction_looks_as_recorded(desk):
    running = desk.start(*RECORDINGS["compact"]["flags"])
    for text in ("My name is Ada", "I like blue", "/compact"):
        running.user(text)
        running.until("result")
    compare("compact", running.events, running.finish())


def test_clear_looks_as_recorded(desk):
    running = desk.ask("/clear")
    compare("slash-clear", running.events, running.exit_code)


def test_input_that_ends_during_the_turn_looks_as_recorded(desk):
    running = converse(desk, "input-eof-during-turn", words({"delay_ms": 200, "text": "Done"}))
    compare("input-eof-during-turn", running.events, running.finish())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("input-bad-json", "not json"),
        ("input-bad-role", {"type": "user", "message": {"role": "assistant", "content": "x"}}),
    ],
)
def test_a_bad_line_ends_the_process_as_recorded(desk, name, line):
    running = desk.start(*RECORDINGS[name]["flags"])
    running.send(line)
    compare(name, running.events, running.finish())
    assert running.stderr.strip() == RECORDINGS[name]["stderr"]


def test_input_that_ends_at_once_looks_as_recorded(desk):
    running = desk.start(*RECORDINGS["input-eof-at-once"]["flags"])
    compare("input-eof-at-once", running.events, running.finish())


# -- sessions


def test_sessions_are_resumed_continued_and_forked_as_recorded(desk):
    for name in ("session-resume", "session-resume.2", "session-resume.3", "session-resume.4"):
        running = desk.ask("Hello", *[f for f in RECORDINGS[name]["flags"] if f != "-p"][3:])
        compare(name, running.events, running.exit_code)


@pytest.mark.parametrize("name", [n for n in RECORDINGS if n.startswith("session-resume-unknown")])
def test_an_unknown_session_is_refused_as_recorded(desk, name):
    flags = [flag for flag in RECORDINGS[name]["flags"] if flag != "-p"]
    code, stdout, stderr = desk.run("-p", "Hello", *flags)
    compare(name, distil.events_of(stdout), code)
    assert stderr.strip() == RECORDINGS[name]["stderr"]


def test_a_session_id_in_use_is_refused_as_recorded(desk):
    for name in ("session-id-in-use", "session-id-in-use.2", "session-id-in-use.3"):
        flags = [flag for flag in RECORDINGS[name]["flags"] if flag != "-p"]
        code, stdout, stderr = desk.run("-p", "Hello", *flags)
        compare(name, distil.events_of(stdout), code)
        assert stderr.strip() == RECORDINGS[name].get("stderr", "")


# -- signals

SIGNALS = {
    "sigint-tool": signal.SIGINT,
    "sigterm-tool": signal.SIGTERM,
    "sigint-api": signal.SIGINT,
    "sigterm-api": signal.SIGTERM,
}


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_signal_ends_the_run_as_recorded(desk, eventually, probe, name):
    command = {"command": f"sleep {probe.mark}; true"}
    in_tool = name.endswith("tool")
    directive = {"tool": {"name": "Bash", "input": command}} if in_tool else {"hang": True}
    flags = [flag for flag in RECORDINGS[name]["flags"] if flag != "-p"]
    running = desk.start("-p", words(directive), *flags, stdin="null")
    running.until("system", "init")
    if in_tool:
        eventually(probe.pids)
    running.signal(SIGNALS[name])
    compare(name, running.events, running.finish())
    probe.is_gone()


def test_sigterm_between_turns_stops_background_work_as_recorded(desk, eventually, probe):
    name = "sigterm-background"
    running = converse(desk, name, words({"background": f"sleep {probe.mark}; true"}))
    running.until("result")
    eventually(probe.pids)
    running.signal(signal.SIGTERM)
    compare(name, running.events, running.finish())
    probe.is_gone()


def test_sigkill_leaves_the_command_behind_as_recorded(desk, eventually, probe):
    command = {"command": f"sleep {probe.mark}; true"}
    directive = {"tool": {"name": "Bash", "input": command}}
    flags = [flag for flag in RECORDINGS["sigkill-tool"]["flags"] if flag != "-p"]
    running = desk.start("-p", words(directive), *flags, stdin="null")
    eventually(probe.pids)
    running.signal(signal.SIGKILL)
    assert running.finish() == -signal.SIGKILL
    assert [distil.label_of(event) for event in running.events] == [
        label for label, _shape in RECORDINGS["sigkill-tool"]["events"]
    ]
    assert probe.pids() != []

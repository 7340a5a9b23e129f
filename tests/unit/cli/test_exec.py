import io
import json
import re
from pathlib import Path

import pytest

from hivectl.model.errors import HiveError


def plain(text):
    return re.sub(r"\r?\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_to_a_pipe_only_the_final_text_is_printed(hive, script):
    ran = hive("exec", "web", "fix it")
    assert (ran.code, ran.out, ran.err) == (0, "All done.\n", "")


def test_on_a_terminal_the_run_is_shown_live_with_a_footer(hive, script):
    ran = hive("exec", "web", "fix it", tty=True)
    shown = plain(ran.out)
    assert ran.code == 0
    assert "I will look at the test first." in shown
    assert "● Bash  npm test" in plain(ran.err)
    assert "✗ Bash failed  1 failing (+1 lines)" in plain(ran.err)
    footer = " ".join(plain(ran.err).split())
    assert "✓ completed · 4.2s · 2 turns · 11,200 in, 345 out · $0.0123 (estimate)" in footer


def test_json_prints_one_final_object(hive, script):
    ran = hive("exec", "web", "fix it", "--json")
    lines = ran.out.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    for name in (
        "execution",
        "state",
        "cause",
        "exit_code",
        "session",
        "result",
        "usage",
        "cost_usd",
    ):
        assert name in found


def test_detach_json_prints_the_execution(hive, script):
    ran = hive("exec", "--detach", "--json", "web", "fix it")
    assert json.loads(ran.out)["execution"] == "x_1"
    assert ran.code == 0


@pytest.mark.parametrize(
    ("state", "cause", "code"),
    [
        ("completed", "ok", 0),
        ("failed", "claude_error", 1),
        ("failed", "usage_limit", 9),
        ("failed", "budget", 9),
        ("cancelled", "killed", 12),
        ("timed_out", "timeout", 7),
        ("lost", "shim_lost", 11),
    ],
)
def test_the_end_decides_the_exit_code(hive, script, state, cause, code):
    script.on_execute = lambda: script.end(state, cause=cause, message="because", result=None)
    ran = hive("exec", "web", "fix it")
    assert ran.code == code
    assert ran.out == ""
    if code:
        assert cause in ran.err


def test_an_approval_without_a_terminal_is_named_and_waited_for(hive, script):
    def ask():
        script.emit("approval.requested", approval_of(script))

    def decided():
        script.emit(
            "approval.decided", {**approval_of(script), "state": "decided", "decision": "allow"}
        )
        script.end()

    script.on_execute = lambda: (ask(), script.daemon._loop.call_later(0.2, decided))
    ran = hive("exec", "web", "fix it")
    assert ran.code == 0
    assert "Claude wants Bash" in ran.err
    assert "rm -rf build" in ran.err
    assert "hivectl approve a_1" in ran.err


def approval_of(script):
    return script.daemon.answers["approval.get"]({"id": "a_1"})


def test_with_no_wait_approval_the_exit_code_is_8(hive, script):
    script.on_execute = lambda: script.emit("approval.requested", approval_of(script))
    ran = hive("exec", "web", "fix it", "--no-wait-approval")
    assert ran.code == 8
    assert "a_1" in ran.err


def test_all_options_reach_the_daemon(hive, script, tmp_path):
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object"}')
    ran = hive(
        "exec", "-p", "web", "do it", "--model", "opus", "--fallback-model", "sonnet",
        "--permission-mode", "plan", "--allowed-tools", "Read", "--allowed-tools", "Bash(git *)",
        "--disallowed-tools", "WebFetch", "--append-system-prompt", "be brief",
        "--max-turns", "3", "--effort", "high", "--timeout", "1h30m", "--no-output-timeout", "90s",
        "--json-schema", str(schema), "--add-dir", ".", "--partials", "--new", "--fork",
        "--if-busy", "fail", "--priority", "high", "--idempotency-key", "k1", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    sent = script.daemon.wait_for("execute")
    assert sent["options"] == {
        "model": "opus",
        "fallback_model": "sonnet",
        "permission_mode": "plan",
        "allowed_tools": ["Read", "Bash(git *)"],
        "disallowed_tools": ["WebFetch"],
        "append_system_prompt": "be brief",
        "max_turns": 3,
        "effort": "high",
        "timeout_s": 5400.0,
        "no_output_timeout_s": 90.0,
        "json_schema": {"type": "object"},
        "add_dirs": [str(tmp_path)],
        "partials": True,
    }
    assert (sent["session"], sent["fork"], sent["if_busy"]) == ("new", True, "fail")
    assert (sent["priority"], sent["idempotency_key"]) == ("high", "k1")


def test_the_prompt_comes_from_a_file(hive, script, tmp_path):
    (tmp_path / "p.md").write_text("from a file\n")
    hive("exec", "web", "--file", "p.md", "--json")
    assert script.daemon.wait_for("execute")["prompt"] == "from a file\n"


class Stdin(io.TextIOWrapper):
    def __init__(self, data):
        super().__init__(io.BytesIO(data))


@pytest.mark.parametrize("words", [("web", "-"), ("-p", "web")])
def test_the_prompt_comes_from_stdin(hive, script, words):
    hive("exec", *words, "--json", stdin=Stdin(b"from stdin"))
    assert script.daemon.wait_for("execute")["prompt"] == "from stdin"


def test_the_prompt_comes_from_the_editor(hive, script, tmp_path, monkeypatch):
    editor = tmp_path / "ed.sh"
    editor.write_text('#!/bin/sh\nprintf "typed here\\n# not this\\n" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    hive("exec", "web", "-e", "--json")
    assert script.daemon.wait_for("execute")["prompt"] == "typed here"


def test_a_prompt_that_is_no_utf8_is_refused(hive, script):
    ran = hive("exec", "web", "-", stdin=Stdin(b"\xff\xfe"))
    assert ran.code == 2
    assert "not UTF-8" in ran.err


def test_one_word_is_the_prompt_for_the_directory_s_project(hive, script, tmp_path, monkeypatch):
    inside = tmp_path / "src" / "deep"
    inside.mkdir(parents=True)
    script.project["path"] = str(tmp_path / "src")
    monkeypatch.chdir(inside)
    hive("exec", "fix it", "--json")
    sent = script.daemon.wait_for("execute")
    assert (sent["project"], sent["prompt"]) == ("p_1", "fix it")


def test_hivectl_project_names_the_project(hive, script, monkeypatch):
    monkeypatch.setenv("HIVECTL_PROJECT", "web")
    hive("exec", "fix it", "--json")
    assert script.daemon.wait_for("execute")["project"] == "web"


def test_outside_every_project_the_error_says_what_to_do(hive, script):
    ran = hive("exec", "fix it")
    assert ran.code == 5
    assert "hivectl project create ." in ran.err


def test_an_unknown_project_gets_a_did_you_mean(hive, script):
    ran = hive("exec", "wep", "fix it")
    assert ran.code == 5
    assert "Did you mean `web`?" in ran.err


def test_a_prompt_with_a_dash_gets_a_hint(hive, script):
    ran = hive("exec", "web", "-x fix it")
    assert ran.code == 2
    assert "after `--`" in ran.err


def test_too_many_words_ask_for_quotes(hive, script):
    ran = hive("exec", "web", "fix", "it")
    assert ran.code == 2
    assert "quotes" in ran.err


def test_a_busy_project_says_so_and_exits_6(hive, script):
    def busy(params):
        raise HiveError("PROJECT_BUSY", "Project web is busy", details={"execution": "x_9"})

    script.daemon.answers["execute"] = busy
    ran = hive("exec", "web", "fix it", "--if-busy", "fail", "--json")
    error = json.loads(ran.err)["error"]
    assert ran.code == 6
    assert ran.out == ""
    assert (error["code"], error["exit_code"], error["retryable"]) == ("PROJECT_BUSY", 6, True)
    assert error["hint"]


def test_the_first_untrusted_run_says_what_is_left_out(hive, script):
    script.project |= {"trust": "untrusted", "totals": {"executions": 0}}
    ran = hive("exec", "web", "fix it")
    assert "left out" in ran.err
    assert "MCP servers: github" in ran.err
    assert "hivectl project trust web" in ran.err


def retry(number, error="overloaded"):
    raw = {"type": "system", "subtype": "api_retry", "attempt": number, "max_retries": 10, "error": error}  # fmt: skip
    return {"kind": "system", "raw": raw}


def test_without_a_terminal_each_retry_is_one_line(hive, script):
    def run():
        for number in (1, 1, 2):
            script.emit("message", retry(number))
        script.emit("execution.state", {"state": "running", "retrying": "2 of 10"})
        script.say("working")
        script.end()

    script.on_execute = run
    ran = hive("exec", "web", "fix it")
    assert ran.out == "All done.\n"
    assert ran.err.splitlines() == [
        "Claude retries, 1 of 10 (overloaded)",
        "Claude retries, 2 of 10 (overloaded)",
    ]
    assert hive("exec", "web", "fix it", "--json").err == ""


@pytest.mark.parametrize("words", [("--no-color",), ()])
def test_without_colours_nothing_is_bold_or_dim(hive, script, monkeypatch, words):
    assert "\x1b[2m" in hive("exec", "web", "fix it", tty=True).err
    if not words:
        monkeypatch.setenv("NO_COLOR", "1")
    ran = hive("exec", "web", "fix it", *words, tty=True)
    assert re.findall(r"\x1b\[[0-9;]*m", ran.out + ran.err) == []


def test_the_footer_shows_the_session_short_unless_asked(hive, script, monkeypatch):
    assert "session" not in plain(hive("exec", "web", "fix it", tty=True).err)
    monkeypatch.setenv("COLUMNS", "140")
    shown = plain(hive("exec", "web", "fix it", tty=True).err)
    assert shown.rstrip().endswith("· session 11111111")
    whole = plain(hive("exec", "web", "fix it", "-v", tty=True).err)
    assert "session 11111111-2222-3333-4444-555555555555" in whole


def test_a_later_untrusted_run_says_nothing(hive, script):
    script.project["trust"] = "untrusted"
    assert hive("exec", "web", "fix it").err == ""


def test_partials_are_shown_once(hive, script):
    def run():
        for part in ("Hel", "lo."):
            event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": part}}
            script.emit(
                "partial", {"after_seq": 0, "raw": {"type": "stream_event", "event": event}}
            )
        script.say("Hello.")
        script.end(result="Hello.")

    script.on_execute = lambda: script.daemon._loop.call_later(0.3, run)
    ran = hive("exec", "web", "fix it", "--partials", tty=True)
    assert plain(ran.out).count("Hello.") == 1


def test_hostile_text_cannot_reach_the_terminal(hive, script):
    evil = "\x1b]0;owned\x07\x1b[2J[red]bold[/x]\u202egnp.exe\x9b31m"

    def run():
        script.say(evil)
        script.use("Bash", {"command": evil})
        script.end("failed", cause="claude_error", message=evil, result=evil, stderr=evil)

    script.on_execute = run
    for options in ({"tty": True}, {}):
        ran = hive("exec", "web", "fix it", **options)
        for text in (ran.out, ran.err):
            assert "owned" not in text
            assert "\u202e" not in text
            assert "\x9b" not in text
            assert "\x1b[2J" not in text
    assert "[red]bold[/x]" in plain(hive("exec", "web", "fix it", tty=True).out)


def test_a_daemon_that_dies_in_mid_run_loses_nothing(hive, script, monkeypatch):
    daemon = script.daemon

    def part_one():
        script.say("alpha")
        daemon._loop.call_later(0.3, crash)

    def crash():
        for connection in list(daemon._connections):
            connection.writer.transport.abort()
        script.say("beta")
        daemon._loop.call_later(0.2, script.finish)

    script.on_execute = part_one
    ran = hive("exec", "web", "fix it", tty=True)
    shown = plain(ran.out)
    assert ran.code == 0
    assert shown.count("alpha") == 1
    assert shown.count("beta") == 1
    assert "connected again" in plain(ran.err)


def test_an_end_that_came_before_we_followed_is_found(hive, script):
    def replayed(params):
        script.state = dict(script.state, state="completed", cause="ok", result="Earlier.", seq=0)
        accepted = script.execute(params)
        return {**accepted, "replayed": True}

    script.on_execute = lambda: None
    script.daemon.answers["execute"] = replayed
    ran = hive("exec", "web", "fix it", "--idempotency-key", "k")
    assert (ran.code, ran.out) == (0, "Earlier.\n")


def test_what_will_have_no_effect_is_said(hive, script):
    script.on_execute = script.finish
    first = script.daemon.answers["execute"]
    warnings = ["append_system_prompt will have no effect"]
    script.daemon.answers["execute"] = lambda params: {**first(params), "warnings": warnings}
    ran = hive("exec", "web", "fix it", "--append-system-prompt", "be brief")
    assert ran.code == 0
    assert "note: append_system_prompt will have no effect" in plain(ran.err)


def test_pending_work_is_shown_with_its_place(hive, script):
    script.on_execute = script.finish
    first = script.daemon.answers["execute"]
    script.daemon.answers["execute"] = lambda params: {**first(params), "place": 3}
    ran = hive("exec", "web", "fix it")
    assert "place 3 in the queue" in ran.err


def test_home_is_expanded_for_extra_directories(hive, script):
    hive("exec", "web", "hi", "--add-dir", "~/lib", "--json")
    assert script.daemon.wait_for("execute")["options"]["add_dirs"] == [str(Path.home() / "lib")]

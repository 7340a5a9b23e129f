"""What each directive makes the mock do."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mock_claude import scenario

SCENARIOS = Path(__file__).resolve().parents[3] / "examples" / "scenarios"


def mock(**directive):
    return f"Please mock: {json.dumps(directive)}"


def test_a_prompt_without_directive_is_answered_with_its_first_words(desk):
    running = desk.ask("Please count all the files in this directory, twice")
    assert running.result()["result"].startswith('You said: "Please count all the files in this')


@pytest.mark.parametrize("count", [1, 2, 400])
def test_events_are_exactly_as_many_as_asked(desk, count):
    texts = desk.ask(mock(events=count)).texts()
    assert texts == [f"event {n + 1} of {count}" for n in range(count)]


def test_no_events_make_an_empty_answer(desk):
    running = desk.ask(mock(events=0))
    assert (running.texts(), running.result()["result"]) == ([], "")


def test_text_is_the_last_of_the_events(desk):
    assert desk.ask(mock(events=3, text="the end")).texts()[1:] == ["event 2 of 3", "the end"]


@pytest.mark.parametrize("size", [1, 20, 1000, 300_000])
def test_texts_have_the_size_asked_for(desk, size):
    texts = desk.ask(mock(events=2, bytes=size)).texts()
    assert [len(text.encode()) for text in texts] == [max(size, 12)] * 2


def test_delay_comes_before_each_event(desk):
    running = desk.ask(mock(events=4, delay_ms=50))
    assert running.result()["duration_ms"] >= 200


def test_directives_may_stand_anywhere_and_repeat(desk):
    prompt = 'One mock: {"text": "first"} two\n  mock: {"text":\n "second"} three'
    running = desk.ask(prompt)
    assert running.texts() == ["first", "second"]


def test_the_word_mock_alone_is_just_text(desk):
    assert "mock: the database" in desk.ask("Please mock: the database").result()["result"]


def test_steps_are_played_in_order_in_one_turn(desk):
    run = {"name": "Bash", "input": {"command": "echo hi"}}
    running = desk.ask(mock(steps=[{"text": "a"}, {"tool": run}, {"text": "b"}]))
    kinds = [event["type"] for event in running.events]
    assert running.texts() == ["a", "b"]
    assert kinds == ["system", "assistant", "assistant", "user", "assistant", "result"]


@pytest.mark.parametrize(
    "prompt",
    ['mock: {"evnts": 3}', 'mock: {"events": }', "mock: @no-such-scenario", 'mock: {"error": "x"}'],
)
def test_a_wrong_directive_is_refused_in_words(desk, prompt):
    code, _stdout, stderr = desk.run("-p", prompt)
    assert code == 1
    assert stderr.startswith("mock_claude: ")


def test_the_same_seed_gives_the_same_output_but_for_times(desk):
    def play():
        running = desk.ask(mock(seed=7, events=3, bytes=50), "--no-session-persistence")
        for event in running.events:
            for key in ("timestamp", "duration_ms", "messaging_socket_path"):
                event.pop(key, None)
            for key in [key for key in event if key.endswith("_ms")]:
                event.pop(key)
        return running.events

    assert play() == play()


def test_without_a_seed_sessions_differ(desk):
    ids = {desk.ask("Hello").result()["session_id"] for _ in range(3)}
    assert len(ids) == 3


def test_env_and_argv_are_told(desk):
    running = desk.ask(mock(env=["SECRET_X"]), SECRET_X="value")
    told = json.loads(running.result()["result"])
    assert told["values"] == {"SECRET_X": "value"}
    assert "SECRET_X" in told["env"]
    assert told["argv"][0] == "-p"
    assert told["cwd"] == str(desk.cwd)


def test_starts_are_recorded(desk, tmp_path):
    record = tmp_path / "starts.jsonl"
    desk.ask("Hello", MOCK_CLAUDE_RECORD=str(record))
    running = desk.talk(MOCK_CLAUDE_RECORD=str(record))
    running.control("initialize")
    running.user("Hi")
    running.finish()
    first, second = [json.loads(line) for line in record.read_text().splitlines()]
    assert first["first_stdin"] == "Hello"
    assert "MOCK_CLAUDE_RECORD" in first["env"]
    heard = json.loads(second["first_stdin"])
    assert heard["message"]["content"] == "Hi", "requests of the host come before what it says"


def test_stderr_gets_text_or_so_many_bytes(desk):
    assert desk.ask(mock(stderr="careful")).stderr == "careful\n"
    assert len(desk.ask(mock(stderr=200_000)).stderr) == 200_000


def test_the_exit_code_can_be_chosen(desk):
    assert desk.ask(mock(exit_code=7)).exit_code == 7


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_crash_is_a_death_by_signal_after_the_earlier_events(desk, name):
    running = desk.ask(mock(steps=[{"events": 3}, {"crash": name}]))
    assert len(running.texts()) == 3
    assert running.exit_code == -signal.Signals[name]


def test_cost_and_model_can_be_chosen(desk):
    result = desk.ask(mock(cost_usd=1.25, model="claude-haiku-5-5")).result()
    assert result["total_cost_usd"] == 1.25
    assert list(result["modelUsage"]) == ["claude-haiku-5-5"]


def test_a_subscription_login_is_told_its_limit_once(desk):
    running = desk.talk(CLAUDE_CODE_OAUTH_TOKEN="not-a-token", ANTHROPIC_API_KEY=None)
    for _turn in range(2):
        running.user("Hello")
        running.until("result")
    running.finish()
    limits = [e["rate_limit_info"] for e in running.events if e["type"] == "rate_limit_event"]
    assert limits == [{"status": "allowed", "isUsingOverage": False}]
    assert running.events[0]["model"] == "claude-sonnet-5-5"


def test_an_unknown_model_is_refused_by_the_api(desk):
    running = desk.ask("Hello", "--model", "no-such-model")
    assert (running.exit_code, running.result()["api_error_status"]) == (1, 404)


# -- hanging


@pytest.mark.parametrize(
    ("hang", "kinds"),
    [("start", []), (True, ["system"]), ("init", ["system"]), ("end", ["system", "assistant"])],
)
def test_a_hang_stops_where_it_should(desk, hang, kinds):
    running = desk.talk()
    running.user(mock(hang=hang))
    for kind in kinds:
        assert running.next_event()["type"] == kind
    running.control("mcp_status")  # still answered, and nothing else came
    assert running.next_event()["type"] == "control_response"
    running.signal(signal.SIGTERM)
    assert running.finish() == 143


def test_a_hang_in_the_stream_leaves_a_half_text(desk):
    running = desk.talk("--include-partial-messages")
    running.user(mock(hang="stream", text="one two three four", partial=4))
    said = ""
    while said.count("o") < 2:
        event = running.next_event()
        said += (event.get("event", {}).get("delta") or {}).get("text", "")
    running.control("interrupt")
    cut = running.until("assistant")
    assert cut["aborted"]
    assert (
        cut["message"]["content"][0]["text"] == said.strip()
        or said in (cut["message"]["content"][0]["text"])
    )


def test_a_hang_of_some_seconds_ends(desk):
    running = desk.ask(mock(hang=0.2))
    assert running.exit_code == 0
    assert running.result()["duration_ms"] >= 200


def test_hang_after_result_outlives_the_end_of_input(desk):
    running = desk.talk()
    running.user(mock(hang_after_result=True))
    running.until("result")
    running.close()
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.3)
    running.signal(signal.SIGTERM)
    assert running.finish() == 143


def test_a_deaf_run_ends_by_sigkill_only(desk):
    running = desk.talk()
    running.user(mock(hang=True, ignore_signals="all"))
    running.until("system", "init")
    running.control("interrupt")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        running.signal(number)
    running.control("mcp_status", "req_2")
    assert running.next_event()["response"]["request_id"] == "req_2"
    running.close()
    running.signal(signal.SIGKILL)
    assert running.finish() == -signal.SIGKILL


# -- noise


def test_garbage_stands_between_good_events(desk):
    running = desk.ask(mock(steps=[{"events": 1}, {"garbage": True}, {"text": "after"}]))
    output = b"".join(running.lines)
    assert running.texts() == ["event 1 of 1", "after"]
    assert all(mark in output for mark in (b"not JSON", b"\xff\xfe", b"\x00", b"mock_unknown"))


def test_a_giant_line_has_its_size(desk):
    running = desk.ask(mock(garbage={"kinds": "giant", "bytes": 3_000_000}))
    assert max(len(line) for line in running.lines) == 3_000_000


def test_a_truncated_last_line_has_no_newline(desk):
    running = desk.ask(mock(garbage="truncated"))
    assert not running.lines[-1].endswith(b"\n")
    assert running.result()["result"]


def test_odd_characters_are_safe_to_split(desk):
    text = "a\u2028b\u0085c\x00d\ud800e é 漢"
    running = desk.ask(mock(text=text))
    assert running.texts() == [text]
    raw = b"".join(running.lines).decode()
    assert len(raw.splitlines()) == len(running.lines)
    assert "é 漢" in raw


# -- scenario files


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.json")), ids=lambda path: path.stem)
def test_packaged_scenarios_are_understood(path):
    content = json.loads(path.read_text())
    for turn in content if isinstance(content, list) else [content]:
        assert scenario.check(turn, path.stem)["about"]


@pytest.mark.parametrize("name", ["hello", "tool", "build", "garbage", "near-limit", "subagent"])
def test_a_named_scenario_plays(desk, name):
    assert desk.ask(f"mock: @{name}").result()["subtype"] == "success"


def test_a_scenario_of_ones_own_folder_comes_first(desk, tmp_path):
    (tmp_path / "hello.json").write_text('{"text": "mine"}')
    running = desk.ask("mock: @hello", MOCK_CLAUDE_SCENARIOS=str(tmp_path))
    assert running.texts() == ["mine"]


def test_a_scenario_from_the_environment_plays_turn_by_turn(desk):
    running = desk.talk(MOCK_CLAUDE_SCENARIO="conversation")
    for text in ("one", "two", "three", "four"):
        running.user(text)
        running.until("result")
    running.finish()
    earlier = "I remember 1 earlier prompts:\n1. one"
    assert running.texts() == ["Nice to meet you.", earlier, "Anything else?", "Anything else?"]


def test_a_directive_in_the_prompt_wins_over_the_environment(desk):
    running = desk.ask(mock(text="mine"), MOCK_CLAUDE_SCENARIO="hello")
    assert running.texts() == ["mine"]


def test_it_starts_fast(desk):
    started = time.monotonic()
    code, _stdout, _stderr = desk.run("-p", "Hello")
    assert code == 0
    assert time.monotonic() - started < 2  # 0.05 s on an idle machine

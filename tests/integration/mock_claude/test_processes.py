"""Signals, pipes, children, and process trees that end by themselves."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mock_claude import trees

STREAM = ["--output-format", "stream-json", "--verbose"]
LINUX = Path("/proc/self/stat").exists()
pytestmark = pytest.mark.skipif(not LINUX, reason="looks at /proc")


def mock(**directive):
    return f"mock: {json.dumps(directive)}"


def bash(command):
    return {"name": "Bash", "input": {"command": command}}


def marked(mark):
    """Processes that carry a mark in their environment or command line, zombies excepted."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in told:
            found.append(int(folder.name))
    return found


@pytest.fixture
def mark():
    """A number of seconds that no other process sleeps: about half a second."""
    return f"{0.4 + (time.monotonic_ns() // 1000 + os.getpid()) % 9000 / 100_000:g}"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_while_idle_ends_the_process(desk, number, code):
    running = desk.talk()
    running.control("initialize")
    running.until("control_response")
    running.signal(number)
    assert running.finish() == code
    assert [event["type"] for event in running.events] == ["control_response"]


def test_sigint_between_pieces_of_text_still_gives_a_result(desk):
    running = desk.talk()
    running.user(mock(events=2, delay_ms=4000))
    running.until("system", "init")
    running.control("mcp_status")
    running.until("control_response")
    running.signal(signal.SIGINT)
    assert running.finish() == 0
    assert running.result()["terminal_reason"] == "aborted_streaming"


def test_sigint_during_a_question_withdraws_it_and_gives_no_result(desk):
    running = desk.host()
    running.user(mock(permission=True))
    request = running.until("control_request")
    running.signal(signal.SIGINT)
    assert running.until("control_cancel_request")["request_id"] == request["request_id"]
    assert running.finish() == 0
    assert running.events[-1]["type"] == "control_cancel_request"


def test_each_command_runs_in_a_session_of_its_own(desk, eventually, probe):
    running = desk.talk("--dangerously-skip-permissions")
    running.user(mock(tool=bash(f"sleep {probe.mark}; true")))
    eventually(probe.pids)
    sessions = {os.getsid(pid) for pid in probe.pids()}
    assert os.getsid(running.pid) not in sessions
    running.control("interrupt")
    assert running.until("result")["is_error"]
    probe.is_gone()


def test_what_a_command_detaches_survives_a_normal_end(desk, eventually, probe):
    call = bash(f"setsid sleep {probe.mark} & sleep 0.1; true")
    assert desk.ask(mock(tool=call), "--dangerously-skip-permissions").exit_code == 0
    assert len(probe.pids()) == 1


def test_background_work_ends_with_the_process(desk, eventually, probe):
    running = desk.talk("--dangerously-skip-permissions")
    running.user(mock(background=f"sleep {probe.mark}; true"))
    running.until("result")
    eventually(probe.pids)
    running.signal(signal.SIGINT)
    assert running.finish() == 0
    probe.is_gone()


def test_stop_task_ends_a_background_command(desk, eventually, probe):
    running = desk.talk("--dangerously-skip-permissions")
    running.user(mock(background=f"sleep {probe.mark}; true"))
    task = running.until("system", "task_started")["task_id"]
    running.until("result")
    running.control("stop_task", task_id=task)
    assert running.until("control_response")["response"]["subtype"] == "success"
    assert running.finish() == 0
    probe.is_gone()


def test_a_reader_that_went_away_is_not_noticed(desk):
    made = desk.cwd / "made"
    prompt = mock(steps=[{"events": 50, "delay_ms": 10}, {"tool": bash(f"touch {made}")}])
    process = desk.unread("-p", prompt, *STREAM, "--dangerously-skip-permissions")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(15) == 0
    assert made.exists()


def test_a_slow_reader_loses_nothing(desk):
    process = desk.unread("-p", mock(events=100, bytes=20_000), *STREAM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    lines = process.stdout.readlines()
    assert process.wait(15) == 0
    assert len(lines) == 102


def test_sigterm_ends_a_run_whose_reader_does_not_read(desk):
    process = desk.unread("-p", mock(events=500, bytes=20_000), *STREAM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 143


def test_process_trees_outlive_the_mock_and_end_by_themselves(desk, eventually, mark):
    names = sorted(set(trees.TREES) - {"wide", "deep", "userns"})
    seconds = {name: round(float(mark) + 3 + n / 1000, 5) for n, name in enumerate(names)}
    desk.ask(mock(spawn=[{"name": name, "seconds": seconds[name]} for name in names]))
    forked = {"fork_forever", "fork_forever_setsid", "stopped"}  # they carry our command line

    def are_asleep():
        return {name for name in names if marked(f"sleep\0{seconds[name]:g}\0")} | forked == set(
            names
        )

    eventually(are_asleep)
    line = f"{seconds['stopped']:g}"
    assert len(marked(line)) >= 2  # the stopped one and its guard; the hops are hard to catch
    eventually(lambda: marked(line) == [])
    eventually(lambda: not any(marked(f"sleep\0{length:g}\0") for length in seconds.values()))


@pytest.mark.parametrize(("name", "count"), [("wide", 200), ("deep", 52)])
def test_a_large_tree_has_its_size(desk, eventually, mark, name, count):
    running = desk.talk()
    running.user(mock(spawn={"name": name, "seconds": float(mark) + 1.5}))
    running.until("result")
    wanted = f"sleep\0{float(mark) + 1.5:g}\0"
    eventually(lambda: len([p for p in marked(wanted) if p != running.pid]) == count)
    running.signal(signal.SIGKILL)
    running.finish()
    eventually(lambda: marked(wanted) == [])


def test_a_tree_may_keep_our_stdout_open(desk):
    started = time.monotonic()
    desk.ask(mock(spawn={"name": "setsid", "seconds": 0.7, "hold": True}))
    assert time.monotonic() - started > 0.7


def test_a_deaf_tree_ignores_sigterm(desk, eventually):
    running = desk.talk()
    running.user(mock(spawn={"name": "deaf", "seconds": 30.4321}))
    running.until("result")
    eventually(lambda: marked("sleep\x0030.4321"))
    (pid,) = marked("sleep\x0030.4321")
    os.kill(pid, signal.SIGTERM)
    ignored = int(
        next(
            line.split()[1]
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("SigIgn")
        ),
        16,
    )
    os.kill(pid, signal.SIGKILL)
    assert ignored & (1 << (signal.SIGTERM - 1))
    running.finish()


def test_an_unknown_tree_is_refused(desk):
    code, _stdout, stderr = desk.run("-p", mock(spawn="hydra"))
    assert (code, "known: plain, deaf" in stderr) == (1, True)

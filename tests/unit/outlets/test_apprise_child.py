"""The process that sends one message: a request in, an answer out, an end in time."""

import json
import signal
import subprocess
import sys


def ask(request: dict[str, object]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "hivectl.outlets.apprise_child"],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_it_answers_what_went_wrong() -> None:
    done = ask({"url": "nonsense://x", "title": "t", "text": "x", "limit_s": 10})
    answer = json.loads(done.stdout)
    assert answer["is_sent"] is False
    assert answer["why"]


def test_it_ends_itself_in_time_whoever_waits_for_it() -> None:
    done = ask({"url": "nonsense://x", "title": "t", "text": "x", "limit_s": 0.01})
    assert done.returncode == -signal.SIGALRM

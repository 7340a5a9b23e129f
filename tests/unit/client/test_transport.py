import os
import socket
import sys
import threading

import pytest

from hivectl import config
from hivectl.client import transport
from hivectl.model.errors import HiveError


def settings_of(home, **env):
    return config.load(
        env={"HIVECTL_HOME": str(home), "HOME": str(home), "PATH": os.environ["PATH"], **env}
    )


def test_the_local_socket_is_the_default(tmp_path):
    found = transport.find_endpoint(settings_of(tmp_path))
    assert found.socket == tmp_path / "run" / "api.sock"
    assert found.token is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4483", "ws://127.0.0.1:4483/ws"),
        ("https://hive.example:443", "wss://hive.example:443/ws"),
        ("ws://[::1]:5/", "ws://[::1]:5/ws"),
    ],
)
def test_a_url_means_tcp(tmp_path, url, expected):
    found = transport.find_endpoint(settings_of(tmp_path, HIVECTL_URL=url, HIVECTL_TOKEN="t"))
    assert (found.url, found.socket, found.token) == (expected, None, "t")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4483", "ftp://x", "http://", "https://x:99999", "http://x:y", "http://[1"]
)
def test_a_url_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(HiveError) as caught:
        transport.find_endpoint(settings_of(tmp_path, HIVECTL_URL=url))
    assert caught.value.code == "CONFIG_INVALID"


@pytest.mark.parametrize(
    ("host", "token"), [("127.0.0.1", "own"), ("localhost", "own"), ("[::1]", "own"), ("10.0.0.5", None), ("evil.test", None)]
)  # fmt: skip
def test_the_token_file_never_leaves_this_machine(tmp_path, host, token):
    settings = settings_of(tmp_path, HIVECTL_URL=f"http://{host}:1")
    settings.places.state.mkdir()
    settings.places.token_file.write_text("own\n")
    assert transport.find_endpoint(settings).token == token


def test_without_autostart_no_daemon_is_started(tmp_path):
    with pytest.raises(HiveError) as caught:
        transport.ensure_running(settings_of(tmp_path), autostart=False, say=print)
    assert caught.value.code == "UNAVAILABLE"
    assert not (tmp_path / "state").exists()


def listen_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen(64)
    return server


_PRETEND = """
import os, socket, sys, time
home = os.environ["HIVECTL_HOME"]
with open(home + "/starts", "a") as file:
    file.write("x")
path = home + "/run/api.sock"
os.makedirs(home + "/run", exist_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(64)
time.sleep(float(os.environ.get("PRETEND_S", "3")))
"""


@pytest.fixture
def pretend(monkeypatch):
    """A stand-in for the daemon program: binds the socket and says how often it was started."""

    def use(code):
        monkeypatch.setattr(transport, "daemon_argv", lambda *words: [sys.executable, "-c", code])

    return use


def test_twelve_commands_at_once_start_one_daemon(tmp_path, pretend):
    pretend(_PRETEND)
    notices, failures = [], []

    def command():
        try:
            transport.ensure_running(settings_of(tmp_path), autostart=True, say=notices.append)
        except HiveError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=command) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (tmp_path / "starts").read_text() == "x"


def test_a_daemon_that_ends_at_once_is_told_with_its_code(tmp_path, pretend):
    pretend("raise SystemExit(78)")
    with pytest.raises(HiveError) as caught:
        transport.ensure_running(settings_of(tmp_path), autostart=True, say=lambda _text: None)
    assert "code 78" in caught.value.message
    assert "daemon run" in caught.value.hint


def test_a_daemon_that_says_why_it_will_not_start_is_heard(tmp_path, pretend):
    pretend(
        "import sys; sys.stderr.write('hivectl: the key is open\\n  why:  w\\n  next: chmod it\\n'); sys.exit(2)"
    )
    with pytest.raises(HiveError) as caught:
        transport.ensure_running(settings_of(tmp_path), autostart=True, say=lambda _text: None)
    assert caught.value.message == "The daemon ended at once, with code 2: the key is open"
    assert caught.value.hint == "chmod it"


def test_a_daemon_that_says_more_than_anybody_reads_is_not_held_up(tmp_path, pretend):
    pretend(
        "import os\nfor _ in range(100):\n try: os.write(2, bytes(8192))\n except BlockingIOError: os._exit(7)"
    )
    with pytest.raises(HiveError) as caught:
        transport.ensure_running(settings_of(tmp_path), autostart=True, say=lambda _text: None)
    assert caught.value.message == "The daemon ended at once, with code 7."


def test_losing_the_daemon_s_lock_is_no_failure(tmp_path, pretend):
    pretend("raise SystemExit(75)")
    settings = settings_of(tmp_path)
    timer = threading.Timer(0.5, lambda: servers.append(listen_at(settings.places.socket)))
    servers = []
    timer.start()
    assert transport.ensure_running(settings, autostart=True, say=lambda _text: None)
    timer.join()
    servers[0].close()


def test_a_daemon_that_never_answers_is_waited_for_within_the_limit(tmp_path, pretend):
    pretend("import time; time.sleep(3)")
    settings = settings_of(tmp_path, HIVECTL_CLIENT_START_TIMEOUT_S="1")
    with pytest.raises(HiveError) as caught:
        transport.ensure_running(settings, autostart=True, say=lambda _text: None)
    assert "within 1 s" in caught.value.message


def test_one_notice_says_that_the_daemon_is_started(tmp_path, pretend):
    pretend(_PRETEND)
    notices = []
    assert transport.ensure_running(
        settings_of(tmp_path, PRETEND_S="1"), autostart=True, say=notices.append
    )
    assert len(notices) == 1


def test_a_running_daemon_is_left_alone(tmp_path, pretend):
    settings = settings_of(tmp_path)
    server = listen_at(settings.places.socket)
    assert not transport.ensure_running(settings, autostart=True, say=pytest.fail)
    server.close()


def test_the_daemon_is_never_imported_from_the_current_directory():
    assert transport.daemon_argv("run")[1:4] == ["-P", "-m", "hivectl.daemon"]

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivectl import config
from hivectl.client import thin
from hivectl.model.errors import HiveError
from hivectl.testing.daemon import FakeDaemon

_DIRS = st.sampled_from(["", "/tmp", "/nowhere", "~/x", "relative/dir", "/run/user/1000"])


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({"HOME": st.sampled_from(["/home/me", "/root"])}, optional={
    "HIVECTL_HOME": _DIRS, "XDG_RUNTIME_DIR": _DIRS, "XDG_STATE_HOME": st.sampled_from(["", "/state"]),
}))  # fmt: skip
def test_the_socket_is_where_the_configuration_says(env):
    assert thin.socket_path(env) == str(config.find_places(env).socket)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(_JSON)
def test_its_json_is_json(value):
    assert json.loads(thin.encode(value)) == value
    assert thin.encode(value).isascii()
    assert thin.decode(json.dumps(value)) == value


@pytest.fixture
def daemon(tmp_path):
    with FakeDaemon(tmp_path) as fake:
        yield fake


def env_of(daemon):
    return {"HIVECTL_HOME": str(daemon.home), "HOME": str(daemon.home)}


def test_a_call_returns_the_result(daemon):
    daemon.answers["health"] = lambda params: {"status": "ok", "umlaut": "ä" * 200_000}
    assert thin.call(env_of(daemon), "health", {})["umlaut"] == "ä" * 200_000


def test_an_error_is_raised_with_the_wires_object(daemon):
    def refuse(params):
        raise HiveError("PROCESS_NOT_FOUND")

    daemon.answers["kill"] = refuse
    with pytest.raises(thin.Refused) as caught:
        thin.call(env_of(daemon), "kill", {"execution": "x_1"})
    assert caught.value.args[0]["data"]["code"] == "PROCESS_NOT_FOUND"


def test_without_a_daemon_nothing_is_asked(tmp_path):
    with pytest.raises(thin.NotPlain):
        thin.call({"HIVECTL_HOME": str(tmp_path)}, "health", {})


def test_tcp_is_left_to_the_full_client(daemon):
    with pytest.raises(thin.NotPlain):
        thin.call({**env_of(daemon), "HIVECTL_URL": "http://127.0.0.1:1"}, "health", {})


def test_a_chunked_answer_is_joined():
    body = b"5\r\nhello\r\n6; x=y\r\n world\r\n0\r\n\r\n"
    assert thin._joined(body) == b"hello world"


def test_the_environment_is_not_needed_beyond_what_is_given():
    assert thin.socket_path({"HIVECTL_HOME": "/h"}) == "/h/run/api.sock"

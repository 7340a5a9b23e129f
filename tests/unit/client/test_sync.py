import pytest

from hivectl import config
from hivectl.client import HiveError, SyncClient
from hivectl.testing.daemon import FakeDaemon


@pytest.fixture
def daemon(tmp_path):
    with FakeDaemon(tmp_path) as fake:
        yield fake


def client_of(daemon):
    settings = config.load(env={"HIVECTL_HOME": str(daemon.home), "HOME": str(daemon.home)})
    return SyncClient(settings, autostart=False)


def test_calls_block_and_return(daemon):
    daemon.answers["project.get"] = lambda params: {"name": params["project"]}
    with client_of(daemon) as hive:
        assert hive.project_get("web")["name"] == "web"
        assert hive.call("ping")["time"]


def test_errors_are_raised(daemon):
    def refuse(params):
        raise HiveError("PROJECT_NOT_FOUND")

    daemon.answers["project.get"] = refuse
    with client_of(daemon) as hive, pytest.raises(HiveError) as caught:
        hive.project_get("nope")
    assert caught.value.code == "PROJECT_NOT_FOUND"


def test_a_subscription_is_a_plain_iterator(daemon):
    for number in range(3):
        daemon.publish("project:p_1", "message", {"n": number})
    with client_of(daemon) as hive, hive.subscribe(["project:p_1"], since="start") as events:
        seen = [next(events)["seq"] for _ in range(3)]
        daemon.publish("project:p_1", "message", {"n": 3})
        seen.append(next(events)["seq"])
    assert seen == [1, 2, 3, 4]


def test_tail_starts_with_the_last(daemon):
    for number in range(5):
        daemon.publish("project:p_1", "message", {"n": number})
    with client_of(daemon) as hive, hive.tail(last=2) as events:
        assert [next(events)["seq"] for _ in range(2)] == [4, 5]


def test_without_a_daemon_entering_raises_and_leaves_no_thread(tmp_path):
    settings = config.load(env={"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path)})
    client = SyncClient(settings, autostart=False)
    with pytest.raises(HiveError), client:
        pass
    assert not client._thread.is_alive()

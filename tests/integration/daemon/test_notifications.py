"""People and programs are told, by a real daemon to a real server, whatever is killed in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import Daemon, RpcError
from tests.harness.receiver import Received, Receiver
from tests.harness.waiting import eventually

ASKS = {
    "permission": {
        "name": "Bash",
        "input": {"command": "rm -rf build TOKEN=hive_abcdefghijklmnopqrstuvwx"},
    }
}
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


class Home:
    """Daemons of one test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.daemons: list[Daemon] = []

    def daemon(self, **settings: Any) -> Daemon:
        made = Daemon(
            self.root, settings={key.replace("__", "."): v for key, v in settings.items()}
        )
        self.daemons.append(made)
        return made


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    for daemon in made.daemons:
        daemon.close()


def wait_sent(daemon: Daemon) -> list[Any]:
    """What was told, once all of it is stored as sent."""

    def settled() -> list[Any] | None:
        items = daemon.call("notify.list")["items"]
        states = {each["state"] for item in items for each in item["deliveries"]}
        return items if states == {"sent"} else None

    found = eventually(settled, what="all is sent")
    assert found is not None
    return found


def is_about_approval(item: Received) -> bool:
    return b"asks to use" in item.body


def test_an_approval_is_told_with_what_is_asked_and_how_to_answer(
    home: Home, receiver: Receiver
) -> None:
    daemon = home.daemon(notify__targets=[receiver.ntfy]).start()
    daemon.project()
    execution = daemon.execute(ASKS)
    approval = daemon.wait_approval(execution)
    told = receiver.wait(wants=is_about_approval)
    text = told[0].body.decode()
    assert "web: Claude asks to use Bash" in text
    assert "rm -rf build" in text
    assert f"hivectl approve {approval['id']}" in text
    assert "abcdefghijklmnop" not in text
    page = wait_sent(daemon)
    assert page[0]["subject"] == approval["id"]
    assert "secrettopic" not in json.dumps(daemon.call("notify.list"))
    daemon.decide(approval)
    assert daemon.wait(execution)["state"] == "completed"


def test_an_approval_that_was_asked_when_the_daemon_died_is_told_once_after_the_restart(
    home: Home, receiver: Receiver
) -> None:
    daemon = home.daemon(notify__targets=[receiver.ntfy])
    daemon.start(failpoint="approval_after_commit:kill")
    daemon.project()
    daemon.execute(ASKS)
    daemon.wait_end()
    assert receiver.requests == []
    daemon.start()
    receiver.wait(wants=is_about_approval)
    wait_sent(daemon)
    daemon.restart()
    time.sleep(2.5)  # a second telling would come within the second after the start
    assert len([item for item in receiver.requests if is_about_approval(item)]) == 1


@pytest.mark.slow
def test_an_approval_is_told_at_least_once_whenever_the_daemon_is_killed(
    home: Home, receiver: Receiver
) -> None:
    daemon = home.daemon(notify__targets=[receiver.ntfy], notify__bundle_s="0").start()
    for number, delay_s in enumerate((0.0, 0.4, 0.9, 1.1, 1.3, 1.6)):
        daemon.project(f"p{number}")
        execution = daemon.execute(ASKS, f"p{number}")
        daemon.wait_approval(execution)
        time.sleep(
            delay_s
        )  # to die at different moments: before, in and after making and sending it
        daemon.restart()
        told = receiver.wait(
            wants=lambda item, n=number: f"p{n}: Claude asks".encode() in item.body
        )
        assert 1 <= len(told) <= 2
        daemon.call("kill", execution=execution)


def check_signature(item: Received, secret: str) -> None:
    id_, stamp = item.headers["webhook-id"], item.headers["webhook-timestamp"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{id_}.{stamp}.".encode() + item.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert item.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(time.time() - int(stamp)) < 60


def test_a_webhook_is_signed_and_tried_again_under_the_same_id_across_a_restart(
    home: Home, receiver: Receiver
) -> None:
    receiver.answers = [500]
    daemon = home.daemon(
        webhook__urls=[f"{receiver.url}/hook?token=secretpart"],
        webhook__secret=SECRET,
        webhook__events=["execution.ended"],
    ).start()
    daemon.project()
    execution = daemon.run("hello")["execution"]
    first = receiver.wait()[0]
    check_signature(first, SECRET)
    assert first.path == "/hook?token=secretpart"
    assert first.json["type"] == "execution.ended"
    assert first.json["execution"] == execution
    assert first.json["project_name"] == "web"
    assert first.json["data"]["state"] == "completed"
    problem = eventually(lambda: daemon.call("health")["problems"], what="a problem is told")
    assert "answered 500" in problem[0]
    assert "secretpart" not in json.dumps(problem)
    daemon.restart()
    both = receiver.wait(2)
    check_signature(both[1], SECRET)
    assert both[1].headers["webhook-id"] == first.headers["webhook-id"] == first.json["id"]
    assert both[1].json == first.json


def test_what_is_given_up_is_told_in_the_log(home: Home, receiver: Receiver) -> None:
    receiver.answers = [410]
    daemon = home.daemon(webhook__urls=[receiver.url], webhook__events=["execution.ended"]).start()
    daemon.project()
    daemon.run("hello")

    def told() -> list[Any]:
        page = daemon.call("get_messages", stream="system", types=["system.notice"])
        return list(page["items"])

    notice = eventually(told, what="a notice")[0]["data"]
    assert notice["code"] == "NOTIFY_FAILED"
    assert "410" in notice["message"]
    assert daemon.call("notify.list", state="failed")["items"][0]["deliveries"][0]["attempts"] == 1


def test_a_test_goes_to_every_target_and_says_how_each_went(home: Home, receiver: Receiver) -> None:
    daemon = home.daemon(
        notify__targets=[receiver.ntfy, "nonsense://secretpart"],
        webhook__urls=[receiver.url, "http://127.0.0.1:1/secretpart"],
    ).start()
    found = daemon.call("notify.test")["items"]
    assert [item["is_sent"] for item in found] == [True, False, True, False]
    assert found[0]["target"] == "ntfy #1"
    assert "secretpart" not in json.dumps(found)
    assert {item.headers.get("webhook-id", "")[:2] for item in receiver.requests} == {"", "n_"}


def test_without_targets_a_test_says_how_to_set_one(home: Home) -> None:
    daemon = home.daemon().start()
    with pytest.raises(RpcError) as refused:
        daemon.call("notify.test")
    assert refused.value.code == "CONFIG_INVALID"


def test_addresses_and_secrets_are_shown_nowhere(home: Home, receiver: Receiver) -> None:
    receiver.answers = [500] * 20
    daemon = home.daemon(
        notify__targets=[f"ntfy://127.0.0.1:{receiver.port}/secretpart"],
        webhook__urls=[f"{receiver.url}/secretpart"],
        webhook__secret="secretpart-of-mine",
    ).start()
    daemon.project()
    daemon.run({"exit": 1})
    receiver.wait(2)
    values = {item["key"]: item["value"] for item in daemon.call("config.get")["items"]}
    assert values["notify.targets"] == ["***"]
    assert values["webhook.secret"] == "***"
    seen = json.dumps(
        [daemon.call("notify.list"), daemon.call("health"), daemon.call("config.get")]
    )
    assert "secretpart" not in seen
    assert "secretpart" not in daemon.log


def test_the_night_is_told_on_one_page(home: Home) -> None:
    daemon = home.daemon().start()
    daemon.project()
    daemon.project("api")
    daemon.run("write the docs")
    daemon.run({"exit": 3}, "api")
    waiting = daemon.execute(ASKS)
    approval = daemon.wait_approval(waiting)
    found = daemon.call("summary", since="1h")
    assert found["counts"] == {"completed": 1, "failed": 1, "waiting": 1}
    api, web = found["projects"]
    assert api["failed"][0]["cause"]
    assert web["done"][0]["prompt"] == "write the docs"
    assert web["waiting"][0]["id"] == approval["id"]
    assert web["cost_usd"] >= 0
    daemon.decide(approval)
    daemon.wait(waiting)
    web = daemon.call("summary", since="1h", project="web")["projects"][0]
    assert sum(web["approvals"].values()) == 1
    assert daemon.call("summary", since="1h", until="30m")["projects"] == []
    with pytest.raises(RpcError) as refused:
        daemon.call("summary", since="soon")
    assert refused.value.code == "INVALID_PARAMS"

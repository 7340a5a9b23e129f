"""`session fork` with real processes: what the copy knows, what the other one never hears, kills in between."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import QUICK
from tests.harness import history
from tests.harness.daemon import Daemon, RpcError, mock
from tests.harness.waiting import eventually

RECALL = "What was said? " + mock(memory=True)


def fork(daemon: Daemon, session: str, **params: Any) -> dict[str, Any]:
    made: dict[str, Any] = daemon.call("session.fork", session=session, **params)
    return made


def test_the_next_prompt_goes_on_in_the_copy_and_the_other_one_never_hears_of_it(
    daemon: Daemon,
) -> None:
    first = daemon.run("My name is Ada")
    copy = fork(daemon, first["session"])
    assert (copy["state"], copy["forked_from"]) == ("forked", first["session"])
    assert (copy["is_current"], copy["executions"], copy["expires_at"]) == (True, 0, None)
    assert daemon.call("project.get", project="web")["session"] == copy["session"]
    in_copy = daemon.run("Only the copy hears this " + mock(memory=True))
    assert in_copy["session"] == copy["session"], "the id was chosen when the copy was asked for"
    assert "Ada" in in_copy["result"]
    argv = daemon.mock_starts()[-1]["argv"]
    flags = {f"--resume={first['session']}", "--fork-session", f"--session-id={copy['session']}"}
    assert flags <= set(argv)
    assert 0 < in_copy["cost_usd"] < 3 * first["cost_usd"], "not what the other one had cost"
    second = daemon.run(RECALL)
    assert second["session"] == copy["session"]
    assert "Only the copy" in second["result"]
    assert "--fork-session" not in daemon.mock_starts()[-1]["argv"]
    back = daemon.run(RECALL, session=first["session"])
    assert "Ada" in back["result"]
    assert "Only the copy" not in back["result"]
    told = history.read(daemon, project="web").check()
    [event] = told.of_type("session.forked")
    assert event["data"]["session"] == event["session"] == copy["session"]
    assert event["data"]["from"] == first["session"]


def test_the_list_shows_the_copy_before_and_after_it_was_begun(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    copy = fork(daemon, first["session"])

    def listed() -> list[tuple[Any, ...]]:
        items = daemon.call("session.list", project="web")["items"]
        return [(i["session"], i["state"], i["is_current"], i["forked_from"]) for i in items]

    assert listed() == [
        (copy["session"], "forked", True, first["session"]),
        (first["session"], "idle", False, None),
    ]
    daemon.run("hello")
    assert listed()[0] == (copy["session"], "idle", True, first["session"])


def test_a_copy_of_a_copy_that_nobody_has_begun_is_one_of_the_first(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    unused = fork(daemon, first["session"])
    copy = fork(daemon, unused["session"])
    assert copy["forked_from"] == first["session"]
    assert "Ada" in daemon.run(RECALL)["result"]
    beside = daemon.run(RECALL, session=unused["session"], fork=True)
    assert "Ada" in beside["result"]
    assert beside["session"] not in {unused["session"], copy["session"], first["session"]}
    named = daemon.run(RECALL, session=unused["session"])
    assert ("Ada" in named["result"], named["session"]) == (True, unused["session"])


def test_a_conversation_that_executes_is_copied_and_what_runs_does_not_take_the_place_back(
    daemon: Daemon,
) -> None:
    first = daemon.run("My name is Ada")
    running = daemon.execute("Take your time " + mock(delay_ms=1500, text="done"))
    copy = fork(daemon, first["session"])
    waiting = daemon.execute(RECALL)
    assert daemon.wait(running)["session"] == first["session"]
    ended = daemon.wait(waiting)
    assert ended["session"] == copy["session"], "whichever was quicker, Claude's start or the copy"
    assert "Take your time" in ended["result"], "the copy is made when its first prompt starts"
    assert daemon.call("project.get", project="web")["session"] == copy["session"]


def test_what_ended_or_was_reset_can_be_copied(make_daemon: Any) -> None:
    daemon = make_daemon(settings={**QUICK, "session.on_expiry": "fresh"})
    daemon.start()
    daemon.project()
    first = daemon.run("My name is Ada")
    daemon.call("session.end", session=first["session"])
    fork(daemon, first["session"])
    assert "Ada" in daemon.run(RECALL)["result"], "a copy does not begin afresh"
    daemon.call("session.new", project="web")
    daemon.run("Somebody else")
    copy = fork(daemon, first["session"])
    assert daemon.call("session.get", session=first["session"])["state"] == "ended"
    daemon.call("session.end", session=copy["session"])
    assert "Ada" not in daemon.run(RECALL)["result"], "ended before it began, and so configured"


def test_a_copy_that_was_ended_before_it_began_does_not_give_its_place_back_to_what_runs(
    make_daemon: Any,
) -> None:
    daemon = make_daemon(settings={**QUICK, "session.on_expiry": "fresh"})
    daemon.start()
    daemon.project()
    first = daemon.run("My name is Ada")
    daemon.execute("Take your time " + mock(delay_ms=500))
    queued = daemon.execute("and again", session=first["session"])
    copy = fork(daemon, first["session"])
    daemon.call("session.end", session=copy["session"])
    assert daemon.wait(queued)["session"] == first["session"]
    assert daemon.call("project.get", project="web")["session"] == copy["session"]
    after = daemon.run(RECALL)
    assert after["session"] not in (first["session"], copy["session"])
    assert "Ada" not in after["result"]


def test_a_copy_whose_other_one_is_gone_costs_one_prompt(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    copy = fork(daemon, first["session"])
    for path in daemon.root.rglob(f"{first['session']}.jsonl"):
        path.unlink()
    lost = daemon.run(RECALL)
    assert (lost["state"], lost["session"]) == ("failed", copy["session"])
    assert "fresh conversation" in lost["message"]
    assert daemon.run("hello")["state"] == "completed"


def test_an_unknown_conversation_and_one_of_another_project_are_refused(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    daemon.project("other")
    copy = fork(daemon, first["session"])
    assert copy["project_name"] == "web", "a copy belongs to its conversation's project"
    assert daemon.call("project.get", project="other")["session"] is None
    with pytest.raises(RpcError) as refused:
        daemon.execute("hello", "other", session=copy["session"])
    assert refused.value.code == "SESSION_NOT_FOUND"
    with pytest.raises(RpcError) as unknown:
        fork(daemon, "11111111-2222-4333-8444-555555555555")
    assert unknown.value.code == "SESSION_NOT_FOUND"


def test_the_same_key_gives_the_same_copy_after_the_daemon_was_killed(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    other = daemon.run("Another one", session="new")
    copy = fork(daemon, first["session"], idempotency_key="k1")
    daemon.restart()
    again = fork(daemon, first["session"], idempotency_key="k1")
    assert again == copy
    with pytest.raises(RpcError) as refused:
        fork(daemon, other["session"], idempotency_key="k1")
    assert refused.value.code == "IDEMPOTENCY_MISMATCH"
    assert "Ada" in daemon.run(RECALL)["result"]
    later = fork(daemon, first["session"], idempotency_key="k1")
    assert later["session"] == copy["session"], "no second copy, and the first is what it became"
    assert later["state"] == "idle"
    told = history.read(daemon, project="web").check()
    assert len(told.of_type("session.forked")) == 1


@pytest.mark.parametrize("failpoint", ["claim_after_commit", "shim_forked", "end_after_commit"])
def test_a_daemon_killed_around_the_first_prompt_makes_one_copy(
    daemon: Daemon, failpoint: str
) -> None:
    first = daemon.run("My name is Ada")
    copy = fork(daemon, first["session"])
    daemon.kill()
    daemon.start(failpoint=f"{failpoint}:kill")
    id_ = daemon.execute(RECALL, not_before="500ms")
    daemon.wait_end()
    daemon.start()
    ended = daemon.wait(id_)
    assert (ended["state"], ended["session"]) == ("completed", copy["session"])
    assert "Ada" in ended["result"]
    forks = [start for start in daemon.mock_starts() if "--fork-session" in start["argv"]]
    assert len(forks) == 1
    assert daemon.run(RECALL)["session"] == copy["session"]
    history.read(daemon, project="web").check()


def test_a_copy_that_claude_made_and_nobody_saw_is_gone_on_in(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    copy = fork(daemon, first["session"])
    [path] = daemon.root.rglob(f"{first['session']}.jsonl")
    made = path.with_name(f"{copy['session']}.jsonl")
    made.write_text(path.read_text().replace(first["session"], copy["session"]))
    taken = daemon.run(RECALL)
    assert taken["state"] == "failed"
    assert "already in use" in taken["message"]
    after = daemon.run(RECALL)
    assert (after["state"], after["session"]) == ("completed", copy["session"])
    assert "Ada" in after["result"]


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that keeps Claude alive between prompts."""
    made = Daemon(tmp_path, settings={**QUICK, "session.warm": True})
    made.start()
    made.project()
    yield made
    made.close()


def test_a_warm_process_carries_its_own_conversation_only(warm: Daemon) -> None:
    first = warm.run("My name is Ada")
    eventually(lambda: warm.call("session.get", session=first["session"])["is_warm"])
    copy = fork(warm, first["session"])
    assert not copy["is_warm"]
    in_copy = warm.run("Only the copy " + mock(memory=True))
    assert in_copy["process"] != first["process"]
    again = warm.run(RECALL)
    assert again["process"] == in_copy["process"], "the copy's own process is kept for it"
    back = warm.run(RECALL, session=first["session"])
    assert back["process"] == first["process"]
    assert ("Ada" in back["result"], "Only the copy" in back["result"]) == (True, False)


def test_many_copies_asked_for_at_once_are_all_whole_and_those_with_one_key_are_one(
    warm: Daemon,
) -> None:
    """While prompts go in between, some of them into the copies, and the other one waits warm."""
    first = warm.run("My name is Ada")["session"]
    with ThreadPoolExecutor(12) as pool:
        copies = [pool.submit(fork, warm, first) for _ in range(12)]
        keyed = [pool.submit(fork, warm, first, idempotency_key="k") for _ in range(6)]
        asked = [pool.submit(warm.execute, f"{number} {RECALL}") for number in range(6)]
        made = {copy.result()["session"] for copy in copies}
        (one,) = {copy.result()["session"] for copy in keyed}
        ended = [warm.wait(each.result()) for each in asked]
    assert len(made) == 12
    assert one not in made
    for each in ended:
        assert each["state"] == "completed"
        assert "Ada" in each["result"], "each prompt went on in the other one or in a copy of it"
        assert each["session"] in {first, one, *made}
    current = warm.call("project.get", project="web")["session"]
    assert warm.run(RECALL)["session"] == current
    listed = warm.call("session.list", project="web", limit=100)["items"]
    assert {item["session"] for item in listed} == {first, one, *made}
    assert [item["session"] for item in listed if item["is_current"]] == [current]


def test_a_conversation_of_a_deleted_project_cannot_be_copied(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")["session"]
    copy = fork(daemon, first)["session"]
    daemon.call("project.delete", project="web")
    for session in (first, copy):
        with pytest.raises(RpcError) as caught:
            fork(daemon, session)
        assert caught.value.code == "SESSION_NOT_FOUND"

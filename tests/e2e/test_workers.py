"""Workers outside as processes: they are killed, frozen, drained and told to stop, and the daemon dies under them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hivectl import config
from hivectl.client import Client, HiveError
from tests.harness.daemon import ROOT, Daemon, RpcError
from tests.harness.waiting import eventually

PROGRAM = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    from hivectl.client import Permanent, Worker

    class Patient(Worker):
        async def handle(self, job):
            await job.output(f"{self.name} begins attempt {job.attempt}")
            wish = json.loads(job.prompt)
            while not Path(wish["go"]).exists():
                await asyncio.sleep(0.02)
            if wish.get("permanent"):
                raise Permanent(wish["permanent"])
            return wish.get("say", "done")

    Patient(sys.argv[1], lease_s=1.0, wait_s=5).main()
    """
)
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(daemon: Daemon, tmp_path: Path) -> Iterator[Start]:
    """Start a worker process and wait until it is registered."""
    program = tmp_path / "patient.py"
    program.write_text(PROGRAM)
    begun: list[subprocess.Popen[bytes]] = []

    def run(name: str, file: Path = program) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.log").open("ab") as log:
            begun.append(
                subprocess.Popen(
                    [sys.executable, str(file), name], env=daemon.env, stdout=log, stderr=log
                )
            )
        eventually(
            lambda: name in [w["name"] for w in outside(daemon) if w["status"] != "offline"],
            within_s=20,
            what=f"{name} is registered",
        )
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.wait(10)
    for worker in daemon.call("worker.list", kind="external")["items"]:
        daemon.call("worker.deregister", worker=worker["worker"])


def outside(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.call("worker.list", kind="external")["items"]
    return found


def wish(go: Path, **more: Any) -> str:
    return json.dumps({"go": str(go), **more})


def enqueue(daemon: Daemon, prompt: str, project: str = "web", **params: Any) -> dict[str, Any]:
    accepted: dict[str, Any] = daemon.call(
        "queue.enqueue", project=project, prompt=prompt, **params
    )
    return accepted


def attempts(daemon: Daemon, order: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.call("queue.describe", work_order=order)["attempts"]
    return found


def carrier(daemon: Daemon, execution: str) -> str:
    return str(daemon.wait_state(execution, "running")["worker"])


def test_the_example_asks_a_person_and_completes(daemon: Daemon, start: Start) -> None:
    for name, text in (("a.md", "one two three"), ("b.md", "four five"), ("c.txt", "six")):
        (daemon.root / "projects" / "web" / name).write_text(text)
    process = start("word-counter", ROOT / "examples" / "worker" / "word_counter.py")
    accepted = enqueue(daemon, "*.md", pool="words")
    daemon.wait_state(accepted["execution"], "waiting")
    assert [w["status"] for w in outside(daemon)] == ["waiting"]
    (asked,) = daemon.call("question.list", execution=accepted["execution"])["items"]
    assert (asked["text"], asked["asker"]) == ("Tell the words of 2 files?", "worker:word-counter")
    daemon.call("question.answer", id=asked["id"], choices=["yes"])
    ended = daemon.wait(accepted["execution"])
    assert (ended["state"], ended["result"]) == ("completed", "5 words in 2 files")
    page = daemon.call(
        "get_messages", project="web", execution=accepted["execution"], types=["message"]
    )
    said = [e["data"]["text"] for e in page["items"] if e["data"]["kind"] == "assistant"]
    assert said == ["counting the words of *.md", "a.md: 3", "b.md: 2"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert outside(daemon) == []


@pytest.mark.parametrize("retries", [0, 1])
def test_work_of_a_killed_worker_is_queued_again_once_where_it_has_retries(
    daemon: Daemon, start: Start, tmp_path: Path, retries: int
) -> None:
    process = start("ada")
    accepted = enqueue(daemon, wish(tmp_path / "go"), retries=retries)
    assert carrier(daemon, accepted["execution"]) == "ada"
    process.kill()
    lost = daemon.wait(accepted["execution"])
    assert (lost["state"], lost["cause"]) == ("lost", "lease")
    assert [w["status"] for w in outside(daemon)] == ["offline"]
    described = daemon.call("queue.describe", work_order=accepted["work_order"])
    if not retries:
        assert described["order"]["state"] == "failed"
        return
    assert (described["order"]["state"], described["order"]["hold"]) == ("queued", "retry")
    start("bob")
    daemon.call("queue.retry", work_order=accepted["work_order"])
    (tmp_path / "go").touch()
    ended = daemon.wait(described["order"]["execution"])
    assert (ended["state"], ended["worker"], ended["attempt"]) == ("completed", "bob", 2)
    assert len(attempts(daemon, accepted["work_order"])) == 2


def test_a_worker_that_was_frozen_finishes_too_late_and_works_on(
    daemon: Daemon, start: Start, tmp_path: Path
) -> None:
    process = start("ada")
    accepted = enqueue(daemon, wish(tmp_path / "go", say="too late"))
    assert carrier(daemon, accepted["execution"]) == "ada"
    process.send_signal(signal.SIGSTOP)
    lost = daemon.wait(accepted["execution"])
    assert lost["state"] == "lost"
    (tmp_path / "go").touch()
    process.send_signal(signal.SIGCONT)
    following = enqueue(daemon, wish(tmp_path / "go", say="in time"))
    ended = daemon.wait(following["execution"])
    assert (ended["result"], ended["worker"]) == ("in time", "ada")
    assert daemon.get(accepted["execution"])["result"] is None


def test_late_words_of_every_kind_are_refused(daemon: Daemon, start: Start) -> None:
    worker = daemon.call("worker.register", name="raw", lease_s=0.5)["worker"]
    accepted = enqueue(daemon, "anything")
    job = daemon.call("queue.claim", worker=worker, wait_s=5)["job"]
    assert (job["execution"], job["prompt"]) == (accepted["execution"], "anything")
    daemon.wait(job["execution"])
    pair = {"worker": worker, "execution": job["execution"]}
    for method, params in (
        ("queue.complete", {"result": "late"}),
        ("queue.fail", {"message": "late"}),
        ("queue.heartbeat", {}),
        ("queue.output", {"first": 0, "messages": [{"text": "late"}]}),
        ("question.ask", {"text": "late?"}),
    ):
        with pytest.raises(RpcError) as caught:
            daemon.call(method, **pair, **params)
        assert caught.value.code == "LEASE_LOST", method
    assert daemon.call("question.list", execution=job["execution"], state="all")["items"] == []


def test_workers_that_claim_at_once_get_different_orders(daemon: Daemon, start: Start) -> None:
    for name in ("a", "b", "c"):
        daemon.project(name)
    names = [f"w{number}" for number in range(6)]
    ids = [daemon.call("worker.register", name=name)["worker"] for name in names]
    with ThreadPoolExecutor(6) as pool:
        claims = [pool.submit(daemon.call, "queue.claim", worker=id_, wait_s=3) for id_ in ids]
        accepted = [enqueue(daemon, "do", name)["execution"] for name in ("a", "b", "c")]
        jobs = [claim.result()["job"] for claim in claims]
    given = sorted(job["execution"] for job in jobs if job is not None)
    assert given == sorted(accepted)
    for id_, job in zip(ids, jobs, strict=True):
        if job is not None:
            daemon.call("queue.complete", worker=id_, execution=job["execution"], result="done")


def test_a_worker_lives_through_the_death_of_the_daemon(
    daemon: Daemon, start: Start, tmp_path: Path
) -> None:
    start("ada")
    accepted = enqueue(daemon, wish(tmp_path / "go", say="still here"))
    assert carrier(daemon, accepted["execution"]) == "ada"
    daemon.kill()
    (tmp_path / "go").touch()
    daemon.start()
    ended = daemon.wait(accepted["execution"])
    assert (ended["state"], ended["result"], ended["attempt"]) == ("completed", "still here", 1)
    following = enqueue(daemon, wish(tmp_path / "go"))
    assert daemon.wait(following["execution"])["worker"] == "ada"


def test_a_drained_worker_finishes_and_takes_nothing_new(
    daemon: Daemon, start: Start, tmp_path: Path
) -> None:
    start("ada")
    first = enqueue(daemon, wish(tmp_path / "go"))
    assert carrier(daemon, first["execution"]) == "ada"
    daemon.call("worker.drain", worker="ada")
    second = enqueue(daemon, wish(tmp_path / "go"))
    (tmp_path / "go").touch()
    assert daemon.wait(first["execution"])["state"] == "completed"
    said = daemon.call("queue.describe", work_order=second["work_order"])["reasons"]
    assert said == ["All 1 workers of the pool 'external' are taken."]
    daemon.call("worker.resume", worker="ada")
    assert daemon.wait(second["execution"])["state"] == "completed"


def test_kill_stops_what_a_worker_does_and_force_does_not_wait_for_it(
    daemon: Daemon, start: Start, tmp_path: Path
) -> None:
    process = start("ada")
    told = enqueue(daemon, wish(tmp_path / "never"), retries=3)
    assert carrier(daemon, told["execution"]) == "ada"
    (killed,) = daemon.call("kill", execution=told["execution"], reason="no more")["executions"]
    assert (killed["state"], killed["message"]) == ("cancelled", "no more")
    forced = enqueue(daemon, wish(tmp_path / "never"))
    assert carrier(daemon, forced["execution"]) == "ada"
    process.send_signal(signal.SIGSTOP)
    (killed,) = daemon.call("kill", execution=forced["execution"], mode="kill")["executions"]
    assert killed["state"] == "cancelled"
    process.send_signal(signal.SIGCONT)
    (tmp_path / "go").touch()
    assert daemon.wait(enqueue(daemon, wish(tmp_path / "go"))["execution"])["state"] == "completed"


def test_a_failure_for_good_is_not_tried_again(
    daemon: Daemon, start: Start, tmp_path: Path
) -> None:
    start("ada")
    (tmp_path / "go").touch()
    final = enqueue(daemon, wish(tmp_path / "go", permanent="there is no such thing"), retries=3)
    ended = daemon.wait(final["execution"])
    assert (ended["state"], ended["message"]) == ("failed", "there is no such thing")
    again = enqueue(daemon, "no JSON", retries=3)
    ended = daemon.wait(again["execution"])
    assert ended["message"].startswith("JSONDecodeError")
    states = [
        daemon.call("queue.describe", work_order=each["work_order"])["order"]["state"]
        for each in (final, again)
    ]
    assert states == ["failed", "queued"]
    daemon.call("queue.clear", all=True)


def test_s16_a_connection_that_works_cannot_approve_what_it_asks(
    daemon: Daemon, start: Start
) -> None:
    async def work() -> list[str]:
        settings = config.load(env={**os.environ, **daemon.env})
        async with Client(settings, autostart=False) as hive:
            assert "approve" in (await hive.whoami())["scopes"]
            worker = (await hive.worker_register("raw"))["worker"]
            await hive.queue_enqueue("web", "ask")
            job = (await hive.queue_claim(worker, wait_s=5))["job"]
            assert job is not None
            asked = await hive.question_ask("May I?", worker=worker, execution=job["execution"])
            codes = []
            for method, params in (
                ("question.answer", {"id": asked["id"], "text": "yes"}),
                ("policy.add", {"action": "allow", "tool": "*"}),
                ("worker.drain", {"worker": "raw"}),
            ):
                with pytest.raises(HiveError) as caught:
                    await hive.call(method, **params)
                codes.append(caught.value.code)
            await hive.auth()
            assert not {"approve", "manage", "admin"} & {*(await hive.whoami())["scopes"]}
            await hive.queue_complete(worker, job["execution"])
            return codes

    assert asyncio.run(work()) == ["SELF_APPROVAL_DENIED"] * 3


def test_s16_an_execution_is_no_worker(daemon: Daemon, start: Start) -> None:
    program = textwrap.dedent(
        """
        from hivectl.client import HiveError, SyncClient
        with SyncClient() as hive:
            try:
                hive.worker_register("inside")
            except HiveError as exc:
                print(exc.code)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**daemon.env, "HIVECTL_EXECUTION": "x_1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == "SELF_APPROVAL_DENIED", done.stderr


class Twin(threading.Thread):
    """A worker that registers again as soon as it is told that another took its name."""

    def __init__(self, daemon: Daemon, completed: list[str], told: list[str]) -> None:
        super().__init__()
        self.node, self.completed, self.told = daemon, completed, told
        self.is_over = threading.Event()

    def run(self) -> None:
        worker = ""
        while not self.is_over.is_set():
            try:
                worker = worker or self.node.call("worker.register", name="twin")["worker"]
                if job := self.node.call("queue.claim", worker=worker, wait_s=0.2)["job"]:
                    self.node.call(
                        "queue.complete", worker=worker, execution=job["execution"], result="done"
                    )
                    self.completed.append(job["project"]["name"])
            except RpcError as error:
                self.told.append(error.code)
                worker = ""


def test_two_workers_of_one_name_that_take_it_from_each_other_do_everything_once(
    daemon: Daemon,
) -> None:
    """What one carried when the other took its name is done again, and counts once."""
    names = [f"p{number}" for number in range(5)]
    for name in names:
        daemon.project(name)
        enqueue(daemon, "do", name, retries=10)
    completed: list[str] = []
    told: list[str] = []
    leaving, staying = twins = [Twin(daemon, completed, told) for _ in range(2)]
    for twin in twins:
        twin.start()

    def is_done() -> bool:
        found = daemon.call("execution.list", limit=200)["items"]
        return len([item for item in found if item["state"] == "completed"]) >= len(names)

    try:
        eventually(lambda: len(told) >= 8, what="they meet again and again")
        leaving.is_over.set()
        eventually(is_done, within_s=40)
    finally:
        for twin in twins:
            twin.is_over.set()
        leaving.join()
        staying.join()
    assert set(told) <= {"LEASE_LOST", "WORKER_NOT_FOUND"}
    assert len(completed) == len(set(completed)) == len(names)
    assert len([w for w in daemon.call("worker.list")["items"] if w["name"] == "twin"]) == 1

"""Rows 1, 2 and 3: the daemon is killed, at random and at named places, and nothing is lost."""

from __future__ import annotations

import contextlib
import http.client
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hivectl.kit import failpoint
from tests.harness import history
from tests.harness.daemon import ENDS, Daemon, DaemonEnded, RpcError, mock
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
OFF = (OSError, http.client.HTTPException)


class Answerer:
    """A second client: allows whatever is asked, again and again, over every restart."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.answered: set[str] = set()
        self.errors: list[str] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Answerer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.05):
            with contextlib.suppress(*OFF):
                try:
                    for approval in self.daemon.call("approval.list", patience_s=5)["items"]:
                        self._answer(approval)
                except RpcError as error:
                    if not error.data["retryable"]:
                        self.errors.append(str(error))

    def _answer(self, approval: dict[str, object]) -> None:
        try:
            self.daemon.decide(approval)
            self.answered.add(str(approval["id"]))
        except RpcError as error:
            if error.code == "ALREADY_DECIDED":
                self.answered.add(str(approval["id"]))  # the answer to our own was lost in a kill
            else:
                raise


def _random_kills(daemon: Daemon, *, kills: int, events: int, seed: int) -> int:
    """Runs in eight projects, killed and restarted at random gaps until `kills` are reached; how many runs."""
    chance = random.Random(seed)
    runs: dict[str, tuple[str, int]] = {}
    names = [f"p{number}" for number in range(8)]
    for name in names:
        daemon.project(name)

    def submit(name: str, number: int) -> None:
        # The key makes a repeat after a lost answer the same prompt.
        count = chance.randrange(events // 2, events)
        steps = [
            {"events": count // 2, "delay_ms": 4},
            {"permission": True},
            {"events": count - count // 2, "delay_ms": 4},
        ]
        accepted = daemon.keep_calling(
            "execute",
            project=name,
            prompt=mock(steps=steps),
            idempotency_key=f"{name}-{number}",
            session="new",
        )
        runs[accepted["execution"]] = (name, count)

    with Answerer(daemon) as answerer:
        rounds = 0
        while daemon.kills < kills:
            rounds += 1
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda name, number=rounds: submit(name, number), names))  # type: ignore[misc]
                open_ = set(runs)
                while open_ and daemon.kills < kills:
                    time.sleep(chance.uniform(0.05, 1.0) ** 2)
                    daemon.restart()
                    open_ -= _ended(daemon)
        for execution in runs:
            daemon.wait(execution, within_s=90)
    assert not answerer.errors
    _check(daemon, runs)
    left = daemon.home / "state" / "runs"
    eventually(lambda: not list(left.iterdir()), what="no process directory left")
    assert "the watch over a process failed" not in daemon.log
    return len(runs)


def _ended(daemon: Daemon) -> set[str]:
    items = daemon.call("execution.list", limit=1000)["items"]
    return {item["execution"] for item in items if item["state"] in ENDS}


def _check(daemon: Daemon, runs: dict[str, tuple[str, int]]) -> None:
    for name in {name for name, _ in runs.values()}:
        told = history.read(daemon, project=name).check()
        for execution, (where, count) in runs.items():
            if where != name:
                continue
            end = told.check_ended(execution)
            assert end["data"]["exit_code"] == 0
            texts = [t for t in told.texts(execution) if t.startswith("event ")]
            first, second = count // 2, count - count // 2
            assert texts == [f"event {i} of {first}" for i in range(1, first + 1)] + [
                f"event {i} of {second}" for i in range(1, second + 1)
            ]
            asked = [e for e in told.of(execution) if e["type"] == "approval.requested"]
            answered = [e for e in told.of(execution) if e["type"] == "approval.decided"]
            assert (len(asked), len(answered)) == (1, 1)
    assert len(daemon.mock_starts()) == len(runs), "something was started twice, or never"


@pytest.mark.timeout(180)
def test_random_kills_lose_double_and_forget_nothing(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_live": 8}).start()
    _random_kills(daemon, kills=12, events=120, seed=7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_random_kills_lose_double_and_forget_nothing(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon(settings={"execution.max_live": 8}).start()
    report.count("runs", _random_kills(daemon, kills=full(1000), events=400, seed=11))
    report.count("kills", daemon.kills)
    starts = sorted(daemon.starts)
    report.figure("restart p50", starts[len(starts) // 2], "s")
    report.figure("slowest restart", starts[-1], "s")


# --- row 2: at every failpoint --------------------------------------------------------------------------

ROLL = {"log.segment_lines": 100}
SETTINGS = {"log_roll": ROLL, "log_compress_before_rename": ROLL}
NTH = {
    "store_commit": (5, 9, 14, 20),
    "log_write": (3, 8, 15, 30),
    "log_between_data_and_index": (2, 6, 12),
}
"""Passages at which a place that is passed often is struck; the others at the first."""


STRUCK_CODES = frozenset({"STORAGE_FULL", "STORAGE_ERROR", "INTERNAL", "SHUTTING_DOWN", "DRAINING"})
"""What a client may be told while a place answers with an error; it asks again, with the same key."""


ELSEWHERE = ("worktree_", "accept_", "taken_over", "parked")
"""What the names of places begin with that a plain run does not pass: they have stories of their own, in
test_worktrees_killed.py and tests/e2e/test_warm.py."""
PLACES = [name for name in failpoint.NAMES if not name.startswith(ELSEWHERE)]


def _cases() -> list[tuple[str, int]]:
    return [(name, n) for name in PLACES for n in NTH.get(name, (1,))]


def _submit_over_a_kill(daemon: Daemon, prompt: str, key: str) -> str:
    """As a careful client does: the same request with the same key until it is answered."""

    def accepted() -> str | None:
        if not daemon.is_running():
            daemon.start()
        try:
            answer = daemon.call("execute", project="web", prompt=prompt, idempotency_key=key)
        except OFF:
            return None
        except RpcError as error:
            if error.code not in STRUCK_CODES:
                raise
            return None
        return str(answer["execution"])

    found = eventually(accepted, within_s=30)
    assert found is not None
    return found


def _live_through(daemon: Daemon, name: str, n: int, action: str = "kill") -> None:
    """One run with a question, struck at one place; then everything must be as if nothing had been."""
    daemon.start()
    daemon.project()
    daemon.stop("keep")
    struck = daemon.spawn(f"{name}@{n}:{action}")
    with contextlib.suppress(DaemonEnded):
        daemon.wait_ready()
    events = {"events": 60, "delay_ms": 3}  # apart, so that they are not all written at once
    prompt = mock(steps=[events, {"permission": True}, events])
    execution = _submit_over_a_kill(daemon, prompt, "one")

    def over() -> bool:
        if not daemon.is_running():
            daemon.start()
        try:
            for approval in daemon.call("approval.list")["items"]:
                daemon.decide(approval)
            return daemon.get(execution)["state"] in ENDS
        except OFF:
            return False
        except RpcError as error:
            if error.code not in {"ALREADY_DECIDED", *STRUCK_CODES}:
                raise
            return False

    eventually(over, within_s=40, what="the run ends")
    if action == "kill":
        code = eventually(struck.poll, what=f"{name} is passed {n} times")
        assert code == -signal.SIGKILL
    daemon.restart()
    told = history.read(daemon, project="web").check()
    told.check_ended(execution)
    texts = [text for text in told.texts(execution) if text.startswith("event ")]
    half = [f"event {i} of 60" for i in range(1, 61)]
    assert texts == half * 2
    assert len(told.of_type("approval.requested")) == len(told.of_type("approval.decided")) == 1
    assert len(daemon.mock_starts()) == 1
    history.read(daemon, stream="system").check_dense()
    eventually(lambda: not daemon.shims(), what="no shim left")
    runs = daemon.home / "state" / "runs"
    eventually(lambda: not list(runs.iterdir()), what="no process directory left")


@pytest.mark.parametrize(("name", "n"), _cases())
def test_a_kill_at_a_named_place_loses_nothing(make_daemon: Make, name: str, n: int) -> None:
    _live_through(make_daemon(settings=SETTINGS.get(name, {})), name, n)


NOTHING_TO_REFUSE = {"shim_forked", "exit_seen", "decision_after_commit", "resume_after_commit"}
"""Places between two steps, where no write can be refused."""


@pytest.mark.parametrize("name", [n for n in PLACES if n not in NOTHING_TO_REFUSE])
def test_a_refused_write_at_a_named_place_loses_nothing(make_daemon: Make, name: str) -> None:
    """The place answers once with ENOSPC, as a disk does that is full for a moment."""
    n = NTH[name][1] if name in NTH else 1
    _live_through(make_daemon(settings=SETTINGS.get(name, {})), name, n, "error=ENOSPC")


# --- many strikes in one home ---------------------------------------------------------------------------

HOMES = 4
PARALLEL = 2
AT_ONE_RUN = 2
"""So often one run is struck; then a life without the failpoint brings it to its end."""
RUN_S = 90.0


class Lives:
    """Life after life in one home, each with the place armed, each killed there: one start for each strike."""

    def __init__(self, daemon: Daemon, name: str, seed: int) -> None:
        self.daemon = daemon
        self.name = name
        self.chance = random.Random(seed)
        self.strikes = 0
        self.runs: list[str] = []

    def live(self, strikes: int) -> None:
        """Prompts one after the other until the place has struck so often; then all must be well."""
        self.daemon.start()
        self.daemon.project()
        self.daemon.kill()
        while self.strikes < strikes:
            self._bring_to_its_end(f"run {len(self.runs)}")
        self.daemon.restart()
        self._check()

    def _bring_to_its_end(self, key: str) -> None:
        half = {"events": 20, "delay_ms": 2}
        prompt = mock(steps=[half, {"permission": True}, half])
        deadline = time.monotonic() + RUN_S
        execution, struck, is_armed = "", 0, True
        while True:
            assert time.monotonic() < deadline, f"{self.name}: {key} does not end\n{self._words()}"
            if not self.daemon.is_running():
                is_armed = struck < AT_ONE_RUN
                self._begin(is_armed)
            with contextlib.suppress(*OFF):
                execution = execution or self._submit(prompt, key)
                if self._is_over(execution):
                    break
            if not self.daemon.is_running():
                self._struck()
                struck += 1
            time.sleep(0.01)
        self.runs.append(execution)
        if not is_armed and self.daemon.is_running():
            self.daemon.kill()

    def _begin(self, is_armed: bool) -> None:
        n = self.chance.randrange(1, 26) if self.name in NTH else 1
        self.daemon.spawn(f"{self.name}@{n}:kill" if is_armed else "")
        with contextlib.suppress(DaemonEnded):
            self.daemon.wait_ready()

    def _struck(self) -> None:
        assert self.daemon.process is not None
        assert self.daemon.process.returncode == -signal.SIGKILL, self._words()
        self.strikes += 1

    def _words(self) -> str:
        return self.daemon.output[-2000:] + self.daemon.log[-2000:]

    def _submit(self, prompt: str, key: str) -> str:
        accepted = self.daemon.call(
            "execute", project="web", prompt=prompt, idempotency_key=key, session="new"
        )
        return str(accepted["execution"])

    def _is_over(self, execution: str) -> bool:
        try:
            for approval in self.daemon.call("approval.list")["items"]:
                self.daemon.decide(approval)
        except RpcError as error:
            if error.code != "ALREADY_DECIDED":
                raise
        return bool(execution) and self.daemon.get(execution)["state"] in ENDS

    def _check(self) -> None:
        told = history.read(self.daemon, project="web").check()
        wanted = [f"event {i} of 20" for i in range(1, 21)] * 2
        for execution in self.runs:
            told.check_ended(execution)
            texts = [text for text in told.texts(execution) if text.startswith("event ")]
            assert texts == wanted
            asked = [e for e in told.of(execution) if e["type"] == "approval.requested"]
            decided = [e for e in told.of(execution) if e["type"] == "approval.decided"]
            assert (len(asked), len(decided)) == (1, 1)
        assert len(self.daemon.mock_starts()) == len(self.runs), "started twice, or never"
        history.read(self.daemon, stream="system").check_dense()
        runs = self.daemon.home / "state" / "runs"
        eventually(lambda: not list(runs.iterdir()), what="no process directory left")
        self.daemon.close()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PLACES)
def test_a_hundred_kills_at_a_named_place_lose_nothing(
    make_daemon: Make, report: Report, name: str
) -> None:
    homes = [make_daemon(settings=SETTINGS.get(name, {})) for _ in range(HOMES)]
    lives = [Lives(home, name, seed) for seed, home in enumerate(homes)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda life: life.live(full(100) // HOMES or 1), lives))
    report.count(f"at {name}", sum(life.strikes for life in lives))

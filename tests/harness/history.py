"""What a log must look like, whatever was killed while it was written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hivectl.model.work import EXECUTION_ENDS, EXECUTION_MOVES, ExecutionState
from tests.harness.daemon import Daemon

Event = dict[str, Any]


@dataclass
class History:
    """All events of one stream, in order."""

    stream: str
    epoch: str
    events: list[Event] = field(default_factory=list)

    def of(self, execution: str) -> list[Event]:
        return [event for event in self.events if event.get("execution") == execution]

    def of_type(self, *types: str) -> list[Event]:
        return [event for event in self.events if event["type"] in types]

    def texts(self, execution: str) -> list[str]:
        """The texts Claude wrote, in order."""
        return [text for event in self.of(execution) for text in _texts(event)]

    # --- promises

    def check(self) -> History:
        """Dense numbers, one epoch, legal moves, one end for each, one answer for each question."""
        self.check_dense()
        for execution in {e["execution"] for e in self.of_type("execution.created")}:
            self.check_moves(execution)
            self.check_prompt(execution)
        self.check_approvals()
        return self

    def check_dense(self) -> None:
        seqs = [event["seq"] for event in self.events]
        assert seqs == list(range(1, len(seqs) + 1)), f"not dense: {_first_gap(seqs)}"
        assert {event["epoch"] for event in self.events} <= {self.epoch}, "more than one epoch"

    def check_moves(self, execution: str) -> None:
        """Every state follows from the one before by an allowed move, and the end comes once."""
        state = ExecutionState.PENDING
        ends = 0
        for event in self.of(execution):
            if event["type"] not in ("execution.state", "execution.ended"):
                continue
            assert ends == 0, f"{execution}: {event['type']} after the end: {event}"
            to = ExecutionState(event["data"]["state"])
            if event["type"] == "execution.state":
                assert event["data"]["from"] == state, f"{execution}: from {state}: {event}"
            if to is not state:
                assert to in EXECUTION_MOVES[state], f"{execution}: {state} -> {to}"
            if event["type"] == "execution.ended":
                assert to in EXECUTION_ENDS, event
                ends += 1
            state = to

    def check_prompt(self, execution: str) -> None:
        """The prompt is there once, before anything Claude said."""
        messages = [e for e in self.of(execution) if e["type"] == "message"]
        prompts = [e for e in messages if e["data"]["kind"] == "prompt"]
        assert len(prompts) == 1, f"{execution}: {len(prompts)} prompts"
        assert messages[0] is prompts[0], f"{execution}: something was said before the prompt"

    def check_approvals(self) -> None:
        """Each is asked once, and closed at most once."""
        asked = Counter(e["data"]["id"] for e in self.of_type("approval.requested"))
        requests = Counter(
            (e["execution"], e["data"]["claude_request"])
            for e in self.of_type("approval.requested")
        )
        closed = Counter(
            e["data"]["id"] for e in self.of_type("approval.decided", "approval.expired")
        )
        assert not [id_ for id_, n in asked.items() if n > 1], asked
        assert not [id_ for id_, n in requests.items() if n > 1], requests
        assert not [id_ for id_, n in closed.items() if n > 1], closed
        by_rule = {
            e["data"]["id"]
            for e in self.of_type("approval.decided")
            if e["data"]["decided_by"].startswith("policy:") and not e["data"].get("timed_out")
        }
        assert set(closed) <= set(asked) | by_rule, "answered by a person who was never asked"
        assert not set(asked) & by_rule, "a person was asked what a rule had answered"

    def check_ended(self, execution: str, state: str = "completed") -> Event:
        """It ended once, in this state; the event."""
        ends = [e for e in self.of(execution) if e["type"] == "execution.ended"]
        assert len(ends) == 1, f"{execution} ended {len(ends)} times"
        assert ends[0]["data"]["state"] == state, ends[0]["data"]
        return ends[0]

    def check_mock_events(self, execution: str, count: int) -> None:
        """Each of the mock's numbered events is there once, in order."""
        texts = [text for text in self.texts(execution) if text.startswith("event ")]
        numbers = [int(text.split()[1]) for text in texts]
        assert numbers == list(range(1, count + 1)), (
            f"{execution}: {len(numbers)} of {count} events; {_first_gap(numbers)}"
        )


def _texts(event: Event) -> Iterable[str]:
    if event["type"] != "message" or event["data"].get("kind") != "assistant":
        return
    raw = event["data"].get("raw") or {}
    for block in raw.get("message", {}).get("content", []):
        if block.get("type") == "text":
            yield block["text"]


def _first_gap(numbers: list[int]) -> str:
    for index, number in enumerate(numbers, 1):
        if number != index:
            return f"{number} stands where {index} belongs"
    return f"{len(numbers)} in all"


def read(daemon: Daemon, *, project: str | None = None, stream: str | None = None) -> History:
    """The whole log of a project, or of a stream."""
    where = {"project": project} if stream is None else {"stream": stream}
    history: History | None = None
    after = 0
    while True:
        page = daemon.call("get_messages", **where, after=after, limit=1000)
        if history is None:
            history = History(page["stream"], page["epoch"])
        assert page["epoch"] == history.epoch
        history.events += page["items"]
        if page["next"] is None:
            return history
        after = page["next"]


def by_execution(history: History) -> dict[str, list[Event]]:
    """Events grouped by execution."""
    groups: dict[str, list[Event]] = defaultdict(list)
    for event in history.events:
        if event.get("execution"):
            groups[event["execution"]].append(event)
    return groups

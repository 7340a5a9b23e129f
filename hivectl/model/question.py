"""What somebody at work asks a person, the answer it gets, and the thread both stand in."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

TEXT_MAX = 10_000
"""Characters of a question."""
CONTEXT_MAX = 20_000
"""Characters of what explains it."""
CHOICES_MAX = 20
CHOICE_MAX = 500
"""Characters of one choice."""
PENDING_MAX = 20
"""Questions of one asker that may wait at once: nobody is to be flooded."""
MESSAGE_MAX = 20_000
"""Characters of one message of a chat."""
MESSAGES_MAX = 10_000
"""Messages of one thread."""
THREADS_MAX = 10_000
"""Threads that belong to no execution."""
TITLE_MAX = 200


class QuestionState(StrEnum):
    """PENDING waits for somebody; EXPIRED: nobody answered in time; WITHDRAWN: nobody needs to any more."""

    PENDING = "pending"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


QUESTION_MOVES: dict[QuestionState, frozenset[QuestionState]] = {
    QuestionState.PENDING: frozenset(
        {QuestionState.ANSWERED, QuestionState.EXPIRED, QuestionState.WITHDRAWN}
    ),
    QuestionState.ANSWERED: frozenset(),
    QuestionState.EXPIRED: frozenset(),
    QuestionState.WITHDRAWN: frozenset(),
}


class OnTimeout(StrEnum):
    """What the asker hears when nobody answered in time."""

    WAIT = "wait"
    DEFAULT = "default"
    DENY = "deny"


TIMED_OUT = {
    OnTimeout.DEFAULT: "Nobody answered in time. Decide by yourself, choose what can be undone, and say what you chose.",
    OnTimeout.DENY: "Nobody answered in time. Do not go on with what you asked about.",
}
DECLINED = "The person declined to answer."
TOO_MANY = f"{PENDING_MAX} questions of yours wait already. Wait for their answers, or go on without this one."


class Patience(msgspec.Struct, frozen=True):
    """How long a question waits, and what happens then. 0 seconds or WAIT: for ever."""

    timeout_s: float = 0.0
    on_timeout: OnTimeout = OnTimeout.WAIT

    def expires_us(self, now_us: int) -> int | None:
        """When a question asked now is no longer waited for."""
        if not self.timeout_s or self.on_timeout is OnTimeout.WAIT:
            return None
        return now_us + int(self.timeout_s * 1_000_000)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question as stored.

    `request` and `rpc` are the ids of Claude's own call of ask_human, None where somebody asked through
    the protocol. `answer` holds the words and the choices; `reason` is what the asker hears where nobody
    answered; `is_delivered` once Claude heard either."""

    id: str
    asker: str
    execution: str | None
    project: str | None
    thread: str
    message_id: str
    request: str | None
    rpc: str | None
    text: str
    choices: list[str]
    multi: bool
    context: str
    state: QuestionState
    version: int
    answer: dict[str, Any] | None
    answered_by: str | None
    reason: str
    is_delivered: bool
    on_timeout: OnTimeout
    expires_us: int | None
    created_us: int
    answered_us: int | None

    @property
    def stream(self) -> str:
        """Where its events are."""
        return "system" if self.project is None else f"project:{self.project}"

    @property
    def is_declined(self) -> bool:
        """A person answered that there will be no answer."""
        return bool(self.answer and self.answer.get("declined"))

    @property
    def reply(self) -> tuple[str, bool]:
        """What the asker hears, and whether it is to take that as a failure."""
        if self.state is QuestionState.ANSWERED:
            words = spoken(self.answer or {})
            return (f"{DECLINED} {words}".strip(), True) if self.is_declined else (words, False)
        is_failure = self.state is not QuestionState.EXPIRED or self.on_timeout is OnTimeout.DENY
        return self.reason or TIMED_OUT[OnTimeout.DENY], is_failure


def spoken(answer: dict[str, Any]) -> str:
    """An answer as one text: the choices, then the person's own words."""
    choices = ", ".join(str(choice) for choice in answer.get("choices") or [])
    return "\n".join(part for part in (choices, str(answer.get("text") or "")) if part)


class Role(StrEnum):
    """Who speaks in a chat."""

    WORKER = "worker"
    HUMAN = "human"
    SYSTEM = "system"


class MessageType(StrEnum):
    """REQUEST wants an answer, RESPONSE is one, STATUS only tells."""

    REQUEST = "request"
    RESPONSE = "response"
    STATUS = "status"


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A thread: attached to an execution, to a project, or to nothing but its owner."""

    id: str
    title: str
    owner: str
    project: str | None
    execution: str | None
    task: str | None
    messages: int
    created_us: int
    activity_us: int

    @property
    def stream(self) -> str:
        """Where its events are."""
        return "system" if self.project is None else f"project:{self.project}"


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a thread. `question` is the id of the question it asks or answers."""

    id: str
    chat: str
    author: str
    role: Role
    type: MessageType
    parent: str | None
    question: str | None
    text: str
    created_us: int

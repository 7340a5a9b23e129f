"""METHODS is the only list of what the daemon can do; each is bound once, and nothing else is."""

from collections import Counter
from typing import Any

from hivectl.protocol.methods import METHODS
from hivectl.server.app import SOCKET_METHODS
from hivectl.server.builtin import BINDINGS
from hivectl.services.audits import Audits
from hivectl.services.chats import Chats
from hivectl.services.executions import Executions
from hivectl.services.messages import Messages
from hivectl.services.notifications import Notifications
from hivectl.services.people import People
from hivectl.services.projects import Projects
from hivectl.services.questions import Questions
from hivectl.services.queue import Queue
from hivectl.services.sessions import Sessions
from hivectl.services.summaries import Summaries
from hivectl.services.system import System
from hivectl.services.usage import Usage
from hivectl.services.workers import Workers
from hivectl.services.worktrees import Worktrees

SERVICES: tuple[type[Any], ...] = (
    Audits,
    Chats,
    Executions,
    Messages,
    Notifications,
    People,
    Projects,
    Questions,
    Queue,
    Sessions,
    Summaries,
    System,
    Usage,
    Workers,
    Worktrees,
)


def bound_by(service: type[Any]) -> dict[str, Any]:
    """Its table needs no house around it."""
    table: dict[str, Any] = service.__new__(service).bindings()
    return table


def test_every_method_is_bound_exactly_once_and_nothing_else_is() -> None:
    bound = Counter([*BINDINGS, *SOCKET_METHODS])
    for service in SERVICES:
        bound.update(bound_by(service).keys())
    assert bound == Counter(METHODS.keys())


def test_methods_of_a_lasting_connection_are_those_that_rpc_refuses() -> None:
    assert set(SOCKET_METHODS) == {name for name, row in METHODS.items() if row.socket_only}


def test_what_changes_state_needs_more_than_the_right_to_read() -> None:
    assert [
        name for name, row in METHODS.items() if row.changes and row.scope in {None, "read"}
    ] == []

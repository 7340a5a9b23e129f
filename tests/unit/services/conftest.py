"""The services over an engine on a machine in memory."""

from contextlib import asynccontextmanager

import pytest

from hivectl import config
from hivectl.kit.clock import SystemClock
from hivectl.model.access import Caller, Scope
from hivectl.protocol.methods import METHODS, params_model
from hivectl.services.audits import Audits
from hivectl.services.chats import Chats
from hivectl.services.executions import Executions
from hivectl.services.house import House
from hivectl.services.messages import Messages
from hivectl.services.people import People
from hivectl.services.projects import Projects
from hivectl.services.questions import Questions
from hivectl.services.queue import Queue
from hivectl.services.sessions import Sessions
from hivectl.services.usage import Usage
from hivectl.services.workers import Workers
from hivectl.services.worktrees import Worktrees
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import Farm, plain

CALLER = Caller(actor="user:t", scopes=frozenset(Scope), peer="unix", request="r_1")


class Desk:
    """Calls methods as the server does: parameters checked, the bound handler awaited."""

    def __init__(self, farm, path):
        self.farm, self.path = farm, path
        settings = config.load(
            env={
                "HOME": str(path),
                "HIVECTL_HOME": str(path / "h"),
                "PATH": "/usr/bin:/bin",
            }
        )
        world = farm.engine.world
        house = House(
            settings=lambda: settings, clock=SystemClock(), db=farm.db, journal=farm.journal, publisher=world.publisher,
            engine=farm.engine,
        )  # fmt: skip
        projects = Projects(house)
        people = People(house, projects)
        executions = Executions(house, projects)
        questions = Questions(house, projects, people)
        self.audits = Audits(house)
        self.bindings = {}
        for service in (
            projects,
            executions,
            Queue(house, projects, executions),
            Workers(house, executions),
            Sessions(house, projects),
            people,
            questions,
            Chats(house, projects, questions),
            Worktrees(house, projects),
            Messages(house, projects),
            Usage(house, projects),
            self.audits,
        ):
            self.bindings |= service.bindings()

    async def call(self, method, *, caller=CALLER, **given):
        checked = params_model(METHODS[method]).model_validate(given)
        return await self.bindings[method](caller, checked)

    async def pages(self, method, **given):
        """All pages of a list, each."""
        found, cursor = [], None
        for _ in range(1000):
            page = await self.call(method, cursor=cursor, **given)
            found.append(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return found
        raise AssertionError("the pages never end")


@pytest.fixture
def desk(tmp_path):
    @asynccontextmanager
    async def opened(script=plain):
        farm = Farm(tmp_path, FakeMachine(script))
        async with farm.open():
            yield Desk(farm, tmp_path)

    return opened

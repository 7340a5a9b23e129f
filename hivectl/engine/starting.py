"""How an execution gets its process: found again, or prepared, checked and started."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from hivectl.engine import beside, directory
from hivectl.engine import live as patience
from hivectl.engine.live import STORAGE_RETRY_S, UNREACHABLE, Live, World
from hivectl.engine.warm import signature_of
from hivectl.kit.ids import make_uuid
from hivectl.logic.environment import environment
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.session import Session, SessionState
from hivectl.model.work import Execution, Options, Order
from hivectl.ports import Handle, Launch, RunSpec
from hivectl.store import projects, sessions, work
from hivectl.store.database import Tx

_log = logging.getLogger(__name__)

NOBODY = "00000000-0000-4000-8000-000000000000"
"""The conversation in what two starts are compared by."""


async def adopt(live: Live) -> Handle | None:
    """Find the process again, however long its shim does not answer: it may be frozen, or of another
    version, and a run that lives must not be given up."""
    while True:
        try:
            return await live.world.host.adopt(live.process)
        except HiveError as exc:
            if exc.code not in UNREACHABLE:
                raise
            _log.warning("shim does not answer", extra={"execution": live.id, "error": exc.message})
            await live.note(stalled="shim_unreachable")
            await asyncio.sleep(patience.ADOPT_RETRY_S)


class Plan(msgspec.Struct, frozen=True):
    """What is to be started, and how it is kept."""

    spec: RunSpec
    keeps_descendants: bool
    is_warm: bool
    """The process may stay for the conversation's next prompt."""
    trust_hash: str | None


async def prepare(live: Live) -> Plan:
    """Choose the conversation and store the choice; a later start of the same execution repeats it."""
    order, project, named = await live.commit(lambda tx: _wanted(tx, live.execution))
    if live.handle is not None and live.execution.session is None:
        # It lives, and only a database that was rebuilt does not know its session: Claude will tell.
        live.execution = replace(live.execution, session=make_uuid())
    if live.execution.session is None:
        trusted = await check(live, project)
        await beside.enter(live, project, is_trusted=trusted)
        session, resume, fork_from = _choose_session(live.world, order, named)
        live.execution = await live.commit(
            lambda tx: work.prepare(
                tx,
                live.id,
                session=session,
                resume=resume,
                fork_from=fork_from,
                trusted=trusted,
            )
        )
    where = await beside.directory(live, project)
    spec = _spec(live, order, project, where)
    return Plan(
        spec,
        bool(project.defaults.get("keep_descendants")),
        _is_warm(live.world, spec, project),
        project.trust_hash,
    )


def _is_warm(world: World, spec: RunSpec, project: Project) -> bool:
    """Whether it was asked for, and nothing is limited that counts over all prompts of a process."""
    settings, wanted = world.settings(), project.defaults.get("warm")
    is_wanted = settings.flag("session.warm") if wanted is None else bool(wanted)
    # A worktree may be gone before the conversation's next prompt.
    is_beside = spec.cwd != Path(project.path)
    is_watched = _no_output_s(world, spec) is not None or spec.options.max_budget_usd is not None
    return is_wanted and not is_watched and not is_beside


def _no_output_s(world: World, spec: RunSpec) -> float | None:
    return spec.options.no_output_timeout_s or world.settings().seconds_or_none(
        "execution.no_output_timeout_s"
    )


def _wanted(tx: Tx, execution: Execution) -> tuple[Order, Project, Session | None]:
    """The order, its project, and the conversation it means, if there is one."""
    project = projects.find(tx, execution.project)
    order = work.find_order(tx, execution.order_id)
    named = project.session if order.session == "current" else order.session
    return order, project, sessions.look(tx, named)


async def check_again(live: Live, spec: RunSpec) -> None:
    """It was prepared before a restart, however long ago: what was true then may not be now.

    Raises HiveError TRUST_CHANGED."""
    project = await live.commit(lambda tx: projects.find(tx, live.execution.project))
    if await check(live, project) != spec.trusted:
        raise HiveError(
            "TRUST_CHANGED", "The project's trust changed before the execution started."
        )
    await beside.enter(live, project, is_trusted=spec.trusted)


async def check(live: Live, project: Project) -> bool:
    """Whether the project is trusted now. Raises HiveError PATH_CHANGED or TRUST_CHANGED."""
    try:
        await asyncio.to_thread(directory.check_identity, project)
    except HiveError as exc:
        message = exc.message
        await live.commit(lambda tx: projects.set_error(tx, project.id, message))
        raise
    if project.error:
        await live.commit(lambda tx: projects.set_error(tx, project.id, None))
    while True:
        try:
            return await asyncio.to_thread(directory.is_trusted, project)
        except HiveError as exc:
            if exc.code == "RESOURCE_LIMIT":
                await asyncio.sleep(STORAGE_RETRY_S)
                continue
            await _break_trust(live, project)
            raise


async def _break_trust(live: Live, project: Project) -> None:
    if not project.trust_broken:
        await live.commit(
            lambda tx: projects.set_trust(
                tx, project.id, project.trust_hash, broken=True, actor="system", request=""
            )
        )


def _spec(live: Live, order: Order, project: Project, where: str) -> RunSpec:
    settings, execution = live.world.settings(), live.execution
    assert execution.session is not None
    slash = project.defaults.get("slash_commands")
    asks = project.defaults.get("ask_human")
    return RunSpec(
        execution=live.id,
        prompt=order.prompt,
        prompt_uuid=order.prompt_uuid,
        cwd=Path(where),
        session=execution.session,
        resume=execution.resume,
        fork_from=execution.fork_from,
        follows=execution.output_start > 0,
        options=options_of(order.options),
        trusted=execution.trusted,
        slash_commands=settings.flag("claude.slash_commands") if slash is None else bool(slash),
        ask_human=settings.flag("claude.ask_human") if asks is None else bool(asks),
        deny_read=live.world.deny_read,
        env=environment(settings.environment, settings["claude.env"], project.env, live.id),
    )


async def signature(live: Live, plan: Plan) -> str:
    """What a process started for this would be, but for its conversation and its execution."""
    info = await live.world.agent.probe()
    anybody = replace(plan.spec, session=NOBODY, resume=False, fork_from=None)
    launch = limited(live.world, live.world.agent.launch(anybody, info), plan)
    return signature_of(launch, info, trust_hash=plan.trust_hash)


def limited(world: World, launch: Launch, plan: Plan) -> Launch:
    """Within the limits of options and settings."""
    settings, spec = world.settings(), plan.spec
    return replace(
        launch,
        deadline_s=deadline_s(world, spec.options),
        no_output_s=_no_output_s(world, spec),
        hang_s=settings.seconds("execution.hang_after_result_s"),
        linger_s=settings.seconds("execution.linger_s"),
        keep_descendants=plan.keeps_descendants,
        max_output_bytes=settings.number("execution.max_output_bytes"),
    )


def deadline_s(world: World, options: Options) -> float:
    """How long one execution may take."""
    return options.timeout_s or world.settings().seconds("execution.timeout_s")


async def start(live: Live, plan: Plan) -> Handle:
    """Start the process. Raises HiveError SPAWN_FAILED."""
    info = await live.world.agent.probe()
    launch = limited(live.world, live.world.agent.launch(plan.spec, info), plan)
    while True:
        refuse_stopped(live)
        try:
            return await live.world.host.start(live.process, launch)
        except HiveError as exc:
            if exc.code != "STORAGE_FULL":
                raise
            await live.note(stalled="storage_full")
            await asyncio.sleep(STORAGE_RETRY_S)


def refuse_stopped(live: Live) -> None:
    """Nothing is started for an execution that somebody has stopped. Raises HiveError SPAWN_FAILED."""
    if live.stop is not None:
        raise HiveError("SPAWN_FAILED", "It was stopped before it started.")


def options_of(stored: dict[str, Any]) -> Options:
    """Options from their stored form."""
    lists = ("allowed_tools", "disallowed_tools", "add_dirs")
    values: dict[str, Any] = {
        name: tuple(value) if name in lists else value
        for name, value in stored.items()
        if value is not None
    }
    return Options(**values)


def _choose_session(
    world: World, order: Order, named: Session | None
) -> tuple[str, bool, str | None]:
    """(session id, resume it?, forked from), of an order and the conversation it means.

    A copy that `session.fork` made is begun by its first prompt, under the id it was given."""
    if order.session == "new" or (named is None and order.session == "current"):
        return make_uuid(), False, None
    if named is None:  # only Claude knows it
        return (make_uuid(), False, order.session) if order.fork else (order.session, True, None)
    if order.fork:
        return make_uuid(), False, named.origin
    is_over = named.state is SessionState.ENDED and order.session == "current"
    if is_over and world.settings().text("session.on_expiry") == "fresh":
        return make_uuid(), False, None
    return (named.id, True, None) if named.is_begun else (named.id, False, named.origin)

"""What workers outside ask and say: be registered, take work, tell of it, finish it."""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.engine.outside import Outside
from hivectl.kit.clock import MICROSECOND, format_us
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.model.work import Cause, Execution, ExecutionState, Outcome, Usage
from hivectl.model.worker import LOCAL_POOL, Worker
from hivectl.services.executions import PROMPT_TEXT_MAX, Executions
from hivectl.services.house import Handler, House
from hivectl.store import leases, projects, work
from hivectl.store.database import Tx
from hivectl.store.moves import find_order

CALL_BYTES = 1024 * 1024
"""Most bytes of messages in one `queue.output`, and of one structured result."""


class Workers:
    """Answers `worker.*` and `queue.*` of workers outside."""

    def __init__(self, house: House, executions: Executions) -> None:
        """Over the rooms below, beside the executions."""
        self._h = house
        self._executions = executions

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "worker.register": self.register,
            "worker.heartbeat": self.heartbeat,
            "worker.deregister": self.deregister,
            "queue.claim": self.claim,
            "queue.heartbeat": self.carries,
            "queue.output": self.output,
            "queue.complete": self.complete,
            "queue.fail": self.fail,
        }

    @property
    def _outside(self) -> Outside:
        return self._h.engine.outside

    # --- the worker ---------------------------------------------------------------------------------

    async def register(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Be a worker."""
        settings = self._h.settings()
        if LOCAL_POOL in p.pools:
            raise _unfit("pools", f"{LOCAL_POOL} is the pool of this daemon's own workers")
        new = leases.Newcomer(
            name=p.name,
            pools=tuple(dict.fromkeys(p.pools)),
            lease_s=settings.seconds("worker.lease_s") if p.lease_s is None else p.lease_s,
            actor=caller.actor,
            request=caller.request,
            limit=settings.number("worker.max_external"),
        )
        worker, lost = await self._outside.register(new)
        return {
            "worker": worker.id,
            "name": worker.name,
            "pools": worker.pools,
            "lease_s": worker.lease_us / MICROSECOND,
            "lease_until": _lease(worker),
            "lost": lost,
        }

    async def heartbeat(self, caller: Caller, p: Any) -> dict[str, Any]:
        """It is alive."""
        heard = await self._outside.beat(
            p.worker, actor=caller.actor, fault=p.fault, leaves=p.leaves
        )
        return _heard(*heard)

    async def deregister(self, caller: Caller, p: Any) -> dict[str, Any]:
        """It goes."""
        worker, lost = await self._outside.deregister(
            p.worker, actor=caller.actor, request=caller.request
        )
        return {"worker": worker.id, "name": worker.name, "lost": lost}

    # --- its work -----------------------------------------------------------------------------------

    async def claim(self, caller: Caller, p: Any) -> dict[str, Any]:
        """The next work order, or nothing in time."""
        given = await self._outside.claim(p.worker, actor=caller.actor, wait_s=p.wait_s)

        def look(tx: Tx) -> tuple[Worker, dict[str, Any] | None]:
            worker = leases.renew(tx, p.worker, actor=caller.actor)
            # Read anew: it may have been lost, or asked to stop, on the way.
            is_carried = given is not None and worker.execution == given.id
            return worker, _job(tx, worker, given.id) if given is not None and is_carried else None

        worker, job = await self._h.db.write(look)
        return {"job": job, "is_draining": worker.is_draining, "lease_until": _lease(worker)}

    async def carries(self, caller: Caller, p: Any) -> dict[str, Any]:
        """It is alive, and carries that."""
        await self._h.db.write(
            lambda tx: leases.carried(tx, p.worker, p.execution, actor=caller.actor)
        )
        heard = await self._outside.beat(p.worker, actor=caller.actor, fault=None, leaves=False)
        return _heard(*heard)

    async def output(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Append messages."""
        messages = self._messages(p)
        most = self._h.settings().number("execution.max_output_bytes")

        def change(tx: Tx) -> tuple[Worker, Execution, int, bool]:
            worker, execution = leases.carried(tx, p.worker, p.execution, actor=caller.actor)
            following, is_too_much = leases.post(tx, execution, p.first, messages, max_bytes=most)
            return worker, execution, following, is_too_much

        worker, execution, following, is_too_much = await self._h.db.write(change)
        if is_too_much:
            message = f"It wrote more than the {most} bytes it may."
            outcome = Outcome(
                state=ExecutionState.FAILED, cause=Cause.OUTPUT_LIMIT, message=message
            )
            await self._outside.finish(p.worker, p.execution, outcome, actor=caller.actor)
            raise HiveError(
                "OUTPUT_LIMIT", message, details={"limit": "execution.max_output_bytes"}
            )
        return {
            "next": following,
            "cancel": execution.stop_mode is not None,
            "lease_until": _lease(worker),
        }

    def _messages(self, p: Any) -> list[tuple[dict[str, Any], int]]:
        """Messages as they stand in the log, each with its size. Raises TOO_LARGE."""
        most = self._h.settings().number("log.spill_bytes")
        found: list[tuple[dict[str, Any], int]] = []
        for message in p.messages:
            raw = message.raw or _spoken(message.kind, message.text)
            data: dict[str, Any] = {"kind": message.kind, "direction": "out"}
            if message.text is not None:
                data["text"] = message.text[:PROMPT_TEXT_MAX]
            size = len(msgspec.json.encode(raw))
            if size > most:
                raise _too_large("One message", size, most)
            found.append(({**data, "raw": raw}, size))
        if (total := sum(size for _, size in found)) > CALL_BYTES:
            raise _too_large("All messages of a call", total, CALL_BYTES)
        return found

    async def complete(self, caller: Caller, p: Any) -> dict[str, Any]:
        """It is done."""
        if (size := len(msgspec.json.encode(p.structured))) > CALL_BYTES:
            raise _too_large("The structured result", size, CALL_BYTES)
        outcome = Outcome(
            state=ExecutionState.COMPLETED,
            cause=Cause.OK,
            result=p.result,
            structured=p.structured,
            usage=_usage(p.usage),
        )
        return await self._finish(caller, p, outcome)

    async def fail(self, caller: Caller, p: Any) -> dict[str, Any]:
        """It could not be done."""
        outcome = Outcome(
            state=ExecutionState.FAILED,
            cause=Cause.CLAUDE_ERROR,
            message=p.message,
            is_final=not p.retryable,
            usage=_usage(p.usage),
        )
        return await self._finish(caller, p, outcome)

    async def _finish(self, caller: Caller, p: Any, outcome: Outcome) -> dict[str, Any]:
        ended = await self._outside.finish(p.worker, p.execution, outcome, actor=caller.actor)
        return await self._executions.view(ended.id)


def _heard(worker: Worker, execution: Execution | None) -> dict[str, Any]:
    cancel = execution is not None and execution.stop_mode is not None
    return {
        "worker": worker.id,
        "lease_until": _lease(worker),
        "is_draining": worker.is_draining,
        "execution": execution.id if execution is not None else None,
        "state": execution.state if execution is not None else None,
        "cancel": cancel,
        "cancel_reason": execution.stop_note or None if execution is not None and cancel else None,
    }


def _job(tx: Tx, worker: Worker, id_: str) -> dict[str, Any]:
    execution = work.find(tx, id_)
    order = find_order(tx, execution.order_id)
    project = projects.find(tx, execution.project)
    row = tx.one("SELECT outputs FROM executions WHERE id = ?", id_)
    return {
        "execution": execution.id,
        "work_order": order.id,
        "attempt": execution.attempt,
        "project": {"id": project.id, "name": project.name, "path": project.path},
        "prompt": order.prompt,
        "session": order.session,
        "options": order.options,
        "priority": order.priority,
        "pool": order.pool,
        "state": execution.state,
        "cancel": execution.stop_mode is not None,
        "outputs": row["outputs"] if row is not None else 0,
        "lease_until": _lease(worker),
    }


def _lease(worker: Worker) -> str:
    assert worker.lease_until_us is not None
    return format_us(worker.lease_until_us)


def _spoken(kind: str, text: str) -> dict[str, Any]:
    """A text in the form of Claude's messages, which whoever follows knows how to show."""
    if kind == "system":
        return {"type": "system", "subtype": "worker", "text": text}
    return {"type": kind, "message": {"role": kind, "content": [{"type": "text", "text": text}]}}


def _usage(given: Any) -> Usage:
    names = set(Usage.__struct_fields__)
    return Usage(**{k: v for k, v in given.model_dump().items() if k in names})


def _unfit(name: str, why: str) -> HiveError:
    return HiveError(
        "INVALID_PARAMS",
        f"{name}: {why}.",
        details={"errors": [{"pointer": f"/{name}", "message": why}]},
    )


def _too_large(what: str, size: int, most: int) -> HiveError:
    return HiveError(
        "TOO_LARGE",
        f"{what} may have {most} bytes, not {size}.",
        details={"max": most, "size": size},
    )

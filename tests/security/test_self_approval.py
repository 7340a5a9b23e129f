"""An execution never approves itself: row S16, with real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time

import pytest

from hivectl.model.access import PERSON_SCOPES, SELF_DENIED, WORKER_DENIED, Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.procs import shim
from hivectl.protocol.methods import METHODS
from hivectl.server import peers
from hivectl.server.dispatch import check_scope
from hivectl.testing.server_world import TOKEN, ServerWorld

ANCESTRY = peers.Ancestry(kin=shim.SYSTEM)
ASK = textwrap.dedent(
    """
    import json, os, socket, sys
    where, method, token = sys.argv[1:4]
    params = json.loads(sys.argv[4])
    if where.isdigit():
        s = socket.create_connection(("127.0.0.1", int(where)))
        host = "127.0.0.1:" + where
    else:
        s = socket.socket(socket.AF_UNIX); s.connect(where)
        host = "localhost"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    s.sendall(("POST /rpc HTTP/1.1\\r\\nHost: %s\\r\\nAuthorization: Bearer %s\\r\\nConnection: close\\r\\n"
        "Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % (host, token, len(body))).encode() + body)
    data = b""
    while part := s.recv(65536):
        data += part
    answer = json.loads(data.partition(b"\\r\\n\\r\\n")[2])
    print(answer["error"]["data"]["code"] if "error" in answer else "ok:" + str(answer["result"].get("actor")))
    """
)
DECIDE = ("approval.decide", '{"id":"a_1","version":1,"decision":"allow"}')
WHOAMI = ("whoami", "{}")


async def ask_as_child(
    where: str, method: tuple[str, str], *, mark: str | None, hide: bool = False
) -> str:
    """What a child (with `hide`, a grandchild with an empty environment) is answered."""
    env = {key: value for key, value in os.environ.items() if key != "HIVECTL_EXECUTION"}
    if mark:
        env["HIVECTL_EXECUTION"] = mark
    argv = [sys.executable, "-I", "-S", "-c", ASK, where, method[0], TOKEN, method[1]]
    if hide:
        inner = f"import subprocess, sys; sys.exit(subprocess.run({argv!r}, env={{}}).returncode)"
        argv = [sys.executable, "-I", "-S", "-c", inner]
    process = await asyncio.create_subprocess_exec(*argv, env=env, stdout=subprocess.PIPE)
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    return out.decode().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")
async def test_s16_a_child_of_an_execution_cannot_approve_over_either_listener() -> None:
    async with ServerWorld.open() as world:
        for where in (str(world.socket), str(world.port)):
            assert await ask_as_child(where, DECIDE, mark=None) == "ok:None"
            assert await ask_as_child(where, DECIDE, mark="x_9") == "SELF_APPROVAL_DENIED"
            denied = await ask_as_child(where, DECIDE, mark="x_9", hide=True)
            assert denied == "SELF_APPROVAL_DENIED", "an emptied environment does not help"
            manage = ("project.create", '{"path":"/x"}')
            assert await ask_as_child(where, manage, mark="x_9") == "SELF_APPROVAL_DENIED"
            listing = ("project.list", "{}")
            assert await ask_as_child(where, listing, mark="x_9") == "ok:None"
        assert await ask_as_child(str(world.socket), WHOAMI, mark="x_9") == "ok:execution:x_9"
        assert ("execution:x_9", "approval.decide", "a_1", "SELF_APPROVAL_DENIED") in world.audits


@pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")
async def test_s16_a_child_makes_no_rule_that_answers_for_a_person_later() -> None:
    rule = '{"action":"ask","tool":"*","timeout_s":1,"on_timeout":"allow"}'
    async with ServerWorld.open() as world:
        for where in (str(world.socket), str(world.port)):
            for change in (("policy.add", rule), ("policy.remove", '{"id":"po_1"}')):
                assert await ask_as_child(where, change, mark="x_9") == "SELF_APPROVAL_DENIED"


def test_s14_asking_which_rule_would_decide_is_reading() -> None:
    method = METHODS["policy.test"]
    assert method.scope is Scope.READ
    assert not method.changes


@pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")
async def test_s16_a_shim_is_known_by_its_pid_too() -> None:
    async with ServerWorld.open(execution_of_pid={os.getpid(): "x_5"}.get) as world:
        assert await ask_as_child(str(world.socket), DECIDE, mark=None) == "SELF_APPROVAL_DENIED"
        async with world.connect() as client:
            assert (await client.call("whoami"))["execution"] == "x_5"


@pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")
def test_s16_a_process_that_is_gone_counts_as_an_execution() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    peer = peers.Peer(label="", uid=os.getuid(), pid=child.pid)
    assert peers.find_execution(peer, ANCESTRY) == peers.UNKNOWN_EXECUTION
    assert peers.find_execution(peers.Peer(label="", uid=0, pid=0), ANCESTRY) is None


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd")
def test_s16_a_pid_that_was_reused_counts_as_an_execution() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    pidfd = os.pidfd_open(child.pid)
    child.wait()
    peer = peers.Peer(label="", uid=os.getuid(), pid=os.getpid(), pidfd=pidfd)
    assert peers.find_execution(peer, ANCESTRY) == peers.UNKNOWN_EXECUTION
    peer.close()


def test_s16_no_execution_gets_through_whatever_it_claims() -> None:
    caller = Caller(actor="execution:x_1", scopes=PERSON_SCOPES, execution="x_1")
    for method in METHODS.values():
        if method.scope in SELF_DENIED:
            with pytest.raises(HiveError) as caught:
                check_scope(caller, method)
            assert caught.value.code == "SELF_APPROVAL_DENIED"
        else:
            check_scope(caller, method)


def test_s16_a_connection_that_works_never_approves_again() -> None:
    caller = Caller(actor="user:t", scopes=PERSON_SCOPES).as_worker()
    for method in METHODS.values():
        if method.scope in WORKER_DENIED:
            with pytest.raises(HiveError) as caught:
                check_scope(caller, method)
            assert caught.value.code == "SELF_APPROVAL_DENIED"
        else:
            check_scope(caller, method)


def test_s14_scope_by_method() -> None:
    for method in METHODS.values():
        assert method.scope is None or Caller(actor="", scopes=frozenset({method.scope})).allows(
            method.scope
        )
        poor = Caller(
            actor="",
            # whoever works may ask
            scopes=PERSON_SCOPES - {method.scope, Scope.WORK},
        )
        if method.scope is None:
            check_scope(poor, method)
            continue
        with pytest.raises(HiveError) as caught:
            check_scope(poor, method)
        assert caught.value.code == "FORBIDDEN"
        assert caught.value.details == {"scope": method.scope}


def test_s16_looking_up_the_ancestors_is_quick() -> None:
    peer = peers.Peer(label="", uid=os.getuid(), pid=os.getpid())
    began = time.perf_counter()
    for _ in range(20):
        peers.find_execution(peer, ANCESTRY)
    assert (time.perf_counter() - began) / 20 < 0.01


@pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")
async def test_s16_a_child_of_an_execution_may_ask_and_cannot_answer() -> None:
    answer = ("question.answer", '{"id":"q_1","text":"yes, do it"}')
    question = ("question.ask", '{"text":"may I?"}')

    async def done(_caller: Caller, _params: object) -> dict[str, str]:
        return {}

    extra = {"question.answer": done, "question.ask": done}
    async with ServerWorld.open(extra=extra) as world:
        for where in (str(world.socket), str(world.port)):
            assert await ask_as_child(where, answer, mark=None) == "ok:None"
            assert await ask_as_child(where, answer, mark="x_9") == "SELF_APPROVAL_DENIED"
            hidden = await ask_as_child(where, answer, mark="x_9", hide=True)
            assert hidden == "SELF_APPROVAL_DENIED"
        assert await ask_as_child(str(world.socket), question, mark="x_9") == "ok:None"

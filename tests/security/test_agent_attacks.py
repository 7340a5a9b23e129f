"""An agent that wants to approve its own work, with a real daemon: row S16.

The attacker is a script that a run's Bash tool starts; it knows the socket, the port and the token.
What it does to hide is in HIDING. Each attack must leave the victim's approval pending.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import Daemon, RpcError
from tests.harness.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ancestry is read from /proc")

Make = Callable[..., Daemon]

ATTACK = """
import ctypes, json, os, socket, sys, time
how, where, method, params, token, out, port_of_person = sys.argv[1:8]

def tell(text):
    with open(out + ".new", "w") as file:
        file.write(text)
    os.rename(out + ".new", out)

def detach():
    if os.fork():
        os._exit(0)
    os.setsid()
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.001)

if "daemon" in how and "again" not in how:
    detach()
if "bare" in how and "again" not in how:
    os.execve(sys.executable, [sys.executable, "-I", "-S", __file__, how + "-again", *sys.argv[2:]], {})
if "orphan" in how:
    shim = os.getppid()
    os.kill(shim, 9)
    while os.getppid() == shim:
        time.sleep(0.001)
if "hide" in how:
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
if where.isdigit():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "twin" in how:
        s.bind(("127.0.0.5", int(port_of_person)))
    s.connect(("127.0.0.1", int(where)))
    host = "127.0.0.1:" + where
else:
    s = socket.socket(socket.AF_UNIX)
    s.connect(where)
    host = "localhost"
body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": json.loads(params)}).encode()
head = ("POST /rpc HTTP/1.1\\r\\nHost: %s\\r\\nAuthorization: Bearer %s\\r\\nConnection: close\\r\\n"
    "Content-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % (host, token, len(body))).encode()
s.sendall(head + body)
if "leave" in how:
    s.close()
    tell("left")
    os._exit(0)
data = b""
while part := s.recv(65536):
    data += part
answer = json.loads(data.partition(b"\\r\\n\\r\\n")[2])
tell(answer["error"]["data"]["code"] if "error" in answer else "ok")
"""
HIDING = [
    "plain", "daemon", "bare", "daemon-bare", "hide", "daemon-bare-hide", "leave", "daemon-bare-leave", "twin",
]  # fmt: skip


class Scene:
    """A victim that waits for a person, and an attacker beside it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        daemon.project("other")
        self.script = daemon.root / "projects" / "other" / "attack.py"
        self.script.write_text(ATTACK)
        self.victim = daemon.execute({"permission": True})
        self.approval = daemon.wait_approval(self.victim)
        self.token = (daemon.view / "state" / "token").read_text().strip()
        self.port = daemon.call("health")["tcp"].rpartition(":")[2]
        self.tried = 0

    def attack(
        self, how: str, where: str, method: str, params: dict[str, Any], *, person: int = 0
    ) -> str:
        """What the attacker was answered."""
        self.tried += 1
        out = self.daemon.root / f"answer{self.tried}"
        target = str(self.daemon.socket) if where == "unix" else self.port
        words = [
            sys.executable, "-I", "-S", str(self.script), how, target, method, json.dumps(params), self.token, str(out),
            str(person),
        ]  # fmt: skip
        command = " ".join("'" + word + "'" for word in words)
        if "daemon" in how:
            command += f"; for i in $(seq 100); do test -e '{out}' && break; sleep 0.05; done"
        tool = {"name": "Bash", "input": {"command": command}}
        execution = self.daemon.execute(
            {"tool": tool}, "other", options={"allowed_tools": ["Bash"]}
        )
        eventually(out.exists, within_s=20, what=f"the attack {how} over {where}")
        self.daemon.wait(execution)
        return out.read_text()

    def decision(self) -> dict[str, Any]:
        return {"id": self.approval["id"], "version": self.approval["version"], "decision": "allow"}

    def assert_pending(self) -> None:
        found = self.daemon.call("approval.get", id=self.approval["id"])
        assert found["state"] == "pending", f"by {found['decided_by']}: {found}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    daemon = Daemon(tmp_path_factory.mktemp("a")).start()
    daemon.project()
    yield Scene(daemon)
    daemon.close()


@pytest.mark.parametrize("how", [h for h in HIDING if h != "twin"])
def test_s16_no_hiding_helps_over_the_unix_socket(scene: Scene, how: str) -> None:
    answer = scene.attack(how, "unix", "approval.decide", scene.decision())
    assert answer in {"SELF_APPROVAL_DENIED", "left"}
    scene.assert_pending()


@pytest.mark.parametrize("how", HIDING)
def test_s16_no_hiding_helps_over_tcp_with_the_users_token(scene: Scene, how: str) -> None:
    import socket

    # A person's connection, whose port the twin takes at another loopback address.
    with socket.create_connection(("127.0.0.1", int(scene.port))) as person:
        local = person.getsockname()[1]
        answer = scene.attack(how, "tcp", "approval.decide", scene.decision(), person=local)
    assert answer in {"SELF_APPROVAL_DENIED", "left"}
    if answer == "left":
        audited_after(scene)
    scene.assert_pending()


def test_s16_killing_the_shim_does_not_help_an_orphan(daemon: Daemon) -> None:
    scene = Scene(daemon)
    words = [scene.daemon.socket, "approval.decide", json.dumps(scene.decision()), scene.token]
    out = daemon.root / "answer"
    argv = [sys.executable, "-I", "-S", scene.script, "daemon-bare-orphan", *words, out, 0]
    command = " ".join(f"'{word}'" for word in argv) + "; sleep 2; true"
    tool = {"name": "Bash", "input": {"command": command}}
    execution = daemon.execute({"tool": tool}, "other", options={"allowed_tools": ["Bash"]})
    daemon.wait(execution)
    assert not out.exists() or out.read_text() == "SELF_APPROVAL_DENIED"
    scene.assert_pending()


def audited_after(scene: Scene) -> None:
    """The request of who left at once has been served by now: requests behind it were."""
    eventually(
        lambda: any(
            e["data"]["method"] == "approval.decide"
            for e in scene.daemon.call("get_messages", stream="system", order="desc")["items"]
            if e["type"] == "audit.entry"
        ),
        what="the attempt is audited",
    )


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("policy.add", {"action": "allow", "tool": "*"}),
        ("project.update", {"project": "web", "env": {"LD_PRELOAD": "/x.so"}}),
        ("project.update", {"project": "web", "defaults": {"permission_mode": "acceptEdits"}}),
        ("project.trust", {"project": "other"}),
        ("project.delete", {"project": "web"}),
        ("log.prune", {"keep_bytes": 0}),
        ("config.get", {}),
        ("daemon.stop", {}),
    ],
)
@pytest.mark.parametrize("where", ["unix", "tcp"])
def test_s16_nor_can_it_change_rules_projects_or_the_daemon(
    scene: Scene, where: str, method: str, params: dict[str, Any]
) -> None:
    assert scene.attack("plain", where, method, params) == "SELF_APPROVAL_DENIED"
    assert scene.daemon.call("policy.list")["items"] == []


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_tools": ["Bash"]},
        {"permission_mode": "acceptEdits"},
        {"permission_mode": "auto"},
        {"add_dirs": ["/srv"]},
    ],
)
@pytest.mark.parametrize("where", ["unix", "tcp"])
def test_s16_an_execution_cannot_allow_beforehand_what_it_may_not_approve(
    scene: Scene, options: dict[str, Any], where: str
) -> None:
    params = {"project": "web", "prompt": "do it for me", "options": options}
    assert scene.attack("plain", where, "execute", params) == "SELF_APPROVAL_DENIED"


def test_s16_an_execution_may_execute_within_the_projects_defaults(daemon: Daemon) -> None:
    defaults: dict[str, Any] = {
        "allowed_tools": ["Edit", "Bash(ls)"],
        "disallowed_tools": ["WebFetch"],
    }
    defaults |= {"max_budget_usd": 2.0, "max_total_tokens": 10**8}
    daemon.call("project.update", project="web", defaults=defaults)
    scene = Scene(daemon)
    good: list[dict[str, Any]] = [
        {},
        {"allowed_tools": ["Edit"], "permission_mode": "plan"},
        {"disallowed_tools": ["WebFetch", "Bash"], "model": "haiku"},
        {"max_budget_usd": 1.5, "max_total_tokens": 10**8},
    ]
    for options in good:
        params = {"project": "web", "prompt": "x", "options": options}
        assert scene.attack("plain", "unix", "execute", params) == "ok", options
    for wider in (
        {"disallowed_tools": ["Bash"]},
        {"max_budget_usd": 3},
        {"max_total_tokens": 10**9},
    ):
        params = {"project": "web", "prompt": "x", "options": wider}
        assert scene.attack("plain", "unix", "execute", params) == "SELF_APPROVAL_DENIED", wider


def test_s16_every_attempt_is_in_the_audit_with_the_execution(daemon: Daemon) -> None:
    scene = Scene(daemon)
    scene.attack("plain", "unix", "approval.decide", scene.decision())
    events = daemon.call("get_messages", stream="system", types=["audit.entry"], limit=1000)
    found = [e["data"] for e in events["items"] if e["data"]["outcome"] == "SELF_APPROVAL_DENIED"]
    assert [entry["method"] for entry in found] == ["approval.decide"]
    assert found[0]["actor"].startswith("execution:x_")
    assert found[0]["target"] == scene.approval["id"]
    assert found[0]["peer"].startswith("unix pid=")


def test_s16_a_key_used_by_an_execution_is_not_the_persons(daemon: Daemon) -> None:
    scene = Scene(daemon)
    theirs = {"project": "web", "prompt": "steal", "idempotency_key": "nightly"}
    assert scene.attack("plain", "unix", "execute", theirs) == "ok"
    ours = daemon.accept("work", idempotency_key="nightly")
    assert ours["replayed"] is False
    assert daemon.get(ours["execution"])["prompt"] == "work"


# --- decisions ---------------------------------------------------------------------------------------


def test_what_is_remembered_is_what_was_allowed_not_what_was_asked(daemon: Daemon) -> None:
    asked = {"name": "Bash", "input": {"command": "touch dangerous"}}
    execution = daemon.execute({"permission": asked})
    approval = daemon.wait_approval(execution)
    daemon.decide(approval, input={**approval["input"], "command": "true"}, remember=True)
    daemon.wait(execution)
    (rule,) = daemon.call("policy.list")["items"]
    assert rule["match"] == {"command": "true"}
    again = daemon.execute({"permission": asked})
    daemon.wait_approval(again)


def test_an_answer_cannot_change_the_tool_and_a_stale_one_is_refused(daemon: Daemon) -> None:
    execution = daemon.execute({"permission": True})
    approval = daemon.wait_approval(execution)
    for extra in ({"tool": "Bash"}, {"tool_name": "Bash"}, {"updatedPermissions": []}):
        with pytest.raises(RpcError) as caught:
            daemon.decide(approval, **extra)
        assert caught.value.code == "INVALID_PARAMS"
    with pytest.raises(RpcError) as caught:
        daemon.decide({**approval, "version": approval["version"] + 1})
    assert caught.value.code == "VERSION_CONFLICT"
    daemon.decide(approval, input={"command": "touch other-tool", "file_path": "x.txt"})
    daemon.wait(execution)
    place = Path(daemon.call("project.get", project="web")["path"])
    assert not (place / "other-tool").exists()

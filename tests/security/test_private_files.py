"""What lies on the disk and what is told: rows S01, S08, S10, S13, S20, S32 to S34, S45 to S47, with a real daemon."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hivectl.protocol.methods import METHODS
from hivectl.store import audit
from tests.harness.daemon import Daemon, DaemonEnded, RpcError
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]

SECRETS = {
    "anthropic": "sk-ant-api03-CANARYcanaryCANARY0123456789",
    "hive": "hive_CANARYcanaryCANARYcanaryCANARYcanaryCANARY",
    "jwt": "eyJCANARY0123.eyJCANARY4567.CANARYsignature",
    "github": "ghp_CANARYcanaryCANARYcanary0123456789",
    "aws": "AKIACANARYCANARY0123",
    "bearer": "Authorization: Bearer CANARYbearerCANARY",
    "assigned": "password=CANARYhunter2",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nCANARYpem\n-----END RSA PRIVATE KEY-----",
}
FORGED = '\n{"level":"error","msg":"forged"}\x1b[2J\r'


def refused(daemon: Daemon, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        daemon.call(method, **params)
    return caught.value


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for tests that only ask."""
    daemon = Daemon(tmp_path_factory.mktemp("p")).start()
    daemon.project()
    daemon.run("hello")
    yield daemon
    daemon.close()


# --- S01, S08 ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net")
def test_s01_a_daemon_with_defaults_listens_on_loopback_only(shared: Daemon) -> None:
    assert shared.process is not None
    inodes = set()
    for fd in Path(f"/proc/{shared.process.pid}/fd").iterdir():
        target = str(fd.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append((table, fields[1].partition(":")[0]))
    assert found == [("tcp", "0100007F")]


def test_s08_a_second_daemon_refuses_and_a_killed_ones_lock_is_taken_over(daemon: Daemon) -> None:
    second = subprocess.run(
        [sys.executable, "-P", "-m", "hivectl.daemon", "run"],
        env=daemon.env, cwd="/", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert "another" in second.stderr.lower() or "already" in second.stderr.lower()
    assert daemon.is_answering()
    daemon.restart()
    assert daemon.is_answering()


# --- S10, S13, S20 -----------------------------------------------------------------------------------


def test_s10_s13_the_token_is_long_private_stays_and_is_told_nowhere(daemon: Daemon) -> None:
    file = daemon.view / "state" / "token"
    token = file.read_text().strip()
    assert token.startswith("hive_")
    assert len(token) >= len("hive_") + 43, "256 bits"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    daemon.run(f"say {token}", options={"model": "sonnet"})
    refused(daemon, "project.get", project="x")
    daemon.restart()
    assert file.read_text().strip() == token
    for path in (daemon.view / "state").rglob("*"):
        if path == file or not path.is_file() or "log" in path.relative_to(daemon.view).parts:
            continue
        if path.suffix in {".db", ".db-wal", ".db-shm"} or ".db" in path.name:
            continue  # the prompt itself, which named it, is stored as it was given
        assert token.encode() not in path.read_bytes(), path
    for method in ("health", "stats", "config.get", "whoami"):
        assert token not in json.dumps(daemon.call(method))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_text("hive_short\n"),
        lambda file: file.write_text("\n"),
        lambda file: file.chmod(0o644),
        lambda file: (file.rename(file.with_name("t")), file.symlink_to(file.with_name("t"))),
    ],
    ids=["short", "empty", "loose", "link"],
)
def test_s10_a_weak_or_open_token_file_refuses_the_start(
    make_daemon: Make, spoil: Callable[[Path], Any]
) -> None:
    daemon = make_daemon().start()
    daemon.stop()
    spoil(daemon.view / "state" / "token")
    with pytest.raises(DaemonEnded) as caught:
        daemon.start()
    assert "token" in caught.value.output


def test_s13_the_token_is_compared_in_constant_time_and_kept_as_a_digest() -> None:
    from hivectl.server.security import Token

    token = Token("hive_" + "x" * 43)
    assert "compare_digest" in inspect.getsource(Token)
    assert all("xxxx" not in repr(value) for value in vars(token).values())


def test_s20_no_option_of_the_command_line_takes_a_secret() -> None:
    import typer

    from hivectl.cli.app import app

    def options(command: Any, path: str) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            for name in (*parameter.opts, *parameter.secondary_opts):
                yield path, name
        for name, inner in getattr(command, "commands", {}).items():
            yield from options(inner, f"{path} {name}")

    found = list(options(typer.main.get_command(app), "hivectl"))
    assert len(found) > 50
    counting = {"--max-tokens"}
    telling = ("token", "password", "secret", "api-key", "key-file")
    assert not [
        row
        for row in found
        if row[1] not in counting and any(word in row[1].lower() for word in telling)
    ]


# --- S33 ---------------------------------------------------------------------------------------------


def loose(root: Path) -> list[str]:
    wrong = []
    for path in [root, *root.rglob("*")]:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            wrong.append(f"{path} is a link")
        elif stat.S_IMODE(mode) & 0o077:
            wrong.append(f"{path} {stat.S_IMODE(mode):04o}")
    return wrong


def test_s33_all_that_a_daemon_makes_is_private_and_nothing_is_in_tmp(
    make_daemon: Make,
) -> None:
    before = os.umask(0)
    try:
        daemon = make_daemon(settings={"log.spill_bytes": "8K"})
        temporary = daemon.root / "tmp"
        temporary.mkdir()
        daemon.extra_env["TMPDIR"] = str(temporary)
        daemon.extra_env["HIVECTL_PROJECTS_ROOTS"] = str(daemon.root / "projects")
        public = set(Path(tempfile.gettempdir()).iterdir())
        daemon.start()
    finally:
        os.umask(before)
    daemon.project()
    execution = daemon.execute({"steps": [{"bytes": 100_000}, {"permission": True}]})
    approval = daemon.wait_approval(execution)
    assert loose(daemon.view) in ([], [str(daemon.view / "config.toml") + " 0666"])
    daemon.decide(approval)
    daemon.wait(execution)
    daemon.restart()
    daemon.run("again")
    assert [row for row in loose(daemon.view) if "config.toml" not in row] == []
    made = {path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - public}
    assert not {name for name in made if "hive" in name.lower()}
    assert list(temporary.iterdir()) == []


def test_s33_a_loose_directory_or_a_link_refuses_the_start(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    daemon.stop()
    state = daemon.view / "state"
    state.chmod(0o755)
    with pytest.raises(DaemonEnded) as caught:
        daemon.start()
    assert "chmod 700" in caught.value.output
    state.chmod(0o700)
    state.rename(daemon.root / "moved")
    state.symlink_to(daemon.root / "moved")
    with pytest.raises(DaemonEnded):
        daemon.start()


# --- S32, S34 ----------------------------------------------------------------------------------------


def test_s32_a_directory_that_was_swapped_is_not_entered(daemon: Daemon) -> None:
    place = daemon.root / "projects" / "web"
    secret = daemon.root / "secret"
    secret.mkdir()
    place.rename(daemon.root / "projects" / "old")
    for swap in (lambda: place.symlink_to(secret), place.mkdir):
        swap()
        assert refused(daemon, "execute", project="web", prompt="x").code == "PATH_CHANGED"
        place.unlink() if place.is_symlink() else place.rmdir()
    assert refused(daemon, "execute", project="web", prompt="x").code == "PATH_CHANGED"
    (daemon.root / "projects" / "old").rename(place)
    assert daemon.run("x")["state"] == "completed"
    assert list(secret.iterdir()) == []


def test_s32_a_swap_while_the_prompt_waits_is_seen_too(daemon: Daemon) -> None:
    place = daemon.root / "projects" / "web"
    first = daemon.execute({"hang": "init"})
    daemon.wait_state(first, "running")
    second = daemon.execute("hello")
    place.rename(daemon.root / "projects" / "old")
    place.symlink_to(daemon.root / "user")
    daemon.call("kill", execution=first, mode="kill")
    assert daemon.wait(second)["state"] == "failed"
    assert not [
        start for start in daemon.mock_starts() if start["cwd"] == str(daemon.root / "user")
    ]


def test_s32_no_form_of_a_forbidden_place_becomes_a_project(shared: Daemon) -> None:
    user = shared.root / "user"
    (user / ".ssh").mkdir(exist_ok=True)
    (user / ".claude").mkdir(exist_ok=True)
    (shared.root / "link").unlink(missing_ok=True)
    (shared.root / "link").symlink_to(user / ".ssh")
    for path in (
        "/", "//", "/..", "relative", "~", "", str(user), f"{user}/", f"{user}/x/..", f"{user}/.ssh",
        f"{user}/.SSH", f"{user}//.ssh/.", f"/proc/self/root{user}/.ssh", f"{shared.root}/link",
        f"{user}/.claude", str(shared.home), f"{shared.home}/state", str(shared.root), "/etc", "/proc/self/cwd",
        f"{user}/a\0b", f"{user}/a\nb", f"{user}/a\x1b[2J", f"{user}/\u2028", "/dev/null", f"{user}/" + "a" * 5000,
        f"{shared.root}/projects/web/inside", f"{shared.root}/projects",
    ):  # fmt: skip
        error = refused(shared, "project.create", path=path, name="evil", mkdir=True)
        assert error.code in {
            "INVALID_PATH", "PATH_NOT_ALLOWED", "PROJECT_NESTING", "PROJECT_EXISTS", "INVALID_PARAMS",
        }, (path, error.code)  # fmt: skip
        assert "\x1b" not in str(error)
    assert not (user / ".SSH").exists()
    assert not (shared.root / "projects/web/inside").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_s32_the_address_of_a_clone_runs_nothing(shared: Daemon) -> None:
    canary = shared.root / "canary"
    for repo, branch in (
        (f"ext::sh -c touch% {canary}", None),
        (f"ext::touch {canary}", None),
        (f"--upload-pack=touch {canary}", None),
        (f"ssh://-oProxyCommand=touch${{IFS}}{canary}/x", None),
        (f"-u@-oProxyCommand=touch {canary}:x", None),
        (f"fd::17/{canary}", None),
        ("https://127.0.0.1:1/x\n--upload-pack=x", None),
        ("file:///nowhere", f"--upload-pack=touch {canary}"),
        ("file:///nowhere", f"-u touch {canary}"),
    ):
        call = {"path": f"{shared.root}/clone", "name": "clone", "repo": repo}
        error = refused(shared, "project.create", **call, **({"branch": branch} if branch else {}))
        assert error.code in {"INVALID_PARAMS", "INVALID_PATH"}, repo
        assert not (shared.root / "clone").exists()
    assert not canary.exists()
    password = {"repo": "https://me:hunter2@127.0.0.1:1/x.git", "name": "clone"}
    error = refused(shared, "project.create", path=f"{shared.root}/clone", **password)
    assert "hunter2" not in json.dumps(error.error)


TRAVERSALS = [
    "../../etc/passwd", "..", "/etc/passwd", "%2e%2e/x", "..\\x", "p_x/../y", ".", "x\0y", "\u202e", "*", "a" * 200,
    "system/../project:x", "project:../../state/token", "project:..", "0000000000000001-b_x.blob",
]  # fmt: skip


def test_s34_ids_are_looked_up_and_never_made_into_paths(shared: Daemon) -> None:
    before = sorted(str(path) for path in shared.view.rglob("*") if "-wal" not in path.name)
    asked = {
        "project.get": "project", "get_messages": "stream", "message.get": "stream", "execution.get": "execution",
        "execution.wait": "execution", "kill": "execution", "session.get": "session", "approval.get": "id",
        "policy.remove": "id", "project.delete": "project", "log.prune": "project", "session.new": "project",
        "project.trust": "project", "project.untrust": "project",
    }  # fmt: skip
    for method, name in asked.items():
        for id_ in TRAVERSALS:
            more = {"message.get": {"seq": 1}, "log.prune": {"keep_bytes": 0}}.get(method, {})
            error = refused(shared, method, **{name: id_}, **more)
            assert error.error["data"]["code"].endswith("_NOT_FOUND"), (method, id_, error.code)
            assert str(shared.root) not in json.dumps(error.error)
    assert before == sorted(str(path) for path in shared.view.rglob("*") if "-wal" not in path.name)


def test_s47_odd_values_are_the_callers_fault_and_never_ours(shared: Daemon) -> None:
    odd: list[Any] = [
        "", "x", "inf", "nan", "9" * 190, "-1", "\0", "é" * 190, "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00", "9" * 100 + "d", 0, -1, 2**53, -(2**53), 1.5, 1e308, True, None, [], {}, ["x"] * 200,
        {"a": 1}, "'; DROP TABLE projects;--",
    ]  # fmt: skip
    known: dict[str, Any] = {
        "project": "web", "prompt": "x", "path": "/tmp", "execution": "x_1", "id": "a_1", "seq": 1, "version": 1,
        "decision": "deny", "action": "deny", "tool": "Bash", "session": "current", "stream": "system",
    }  # fmt: skip
    faults = []
    for name, row in METHODS.items():
        if row.socket_only or name in {"daemon.stop", "execute", "project.delete"}:
            continue
        from hivectl.protocol.methods import params_model

        fields = params_model(row).model_fields
        needed = {key: known[key] for key, f in fields.items() if f.is_required() and key in known}
        if name == "get_messages":
            needed["project"] = "web"
        for field in fields:
            for value in odd:
                params = {**needed, field: value}
                if name == "execution.wait":
                    params.setdefault("timeout_s", 0)
                try:
                    shared.call(name, **params)
                except RpcError as error:
                    if error.code == "INTERNAL":
                        faults.append((name, field, value))
    assert faults == []


# --- S45, S46, S47 -----------------------------------------------------------------------------------


def test_s45_no_secret_and_no_forged_line_is_in_the_log_the_audit_or_an_error(
    daemon: Daemon,
) -> None:
    for name, secret in SECRETS.items():
        hostile = secret + FORGED
        daemon.run(f"{hostile} {name}")
        daemon.run({"stderr": hostile, "error": "401", "retries": 0})
        daemon.call("kill", execution=daemon.execute({"hang": "init"}), reason=hostile)
        for method, params in (
            ("project.get", {"project": hostile[:190]}),
            ("project.create", {"path": f"/{hostile}", "name": "x"}),
            ("execution.get", {"execution": hostile[:190]}),
            ("policy.add", {"action": "allow", "tool": hostile[:190]}),
            ("nothing." + hostile[:60], {}),
        ):
            refused(daemon, method, **params)
    daemon.call("project.update", project="web", env={"API_KEY": "CANARYenv"})
    daemon.run("hello")
    text = daemon.log + daemon.output
    assert "CANARY" not in text
    assert "\x1b" not in text
    lines = daemon.log.splitlines()
    assert lines
    assert all(json.loads(line).get("msg") != "forged" for line in lines)
    entries = daemon.call("get_messages", stream="system", types=["audit.entry"], limit=1000)
    assert entries["items"]
    assert "CANARY" not in json.dumps(entries), "targets of the audit"


def test_s46_the_audit_is_append_only_and_the_verifier_names_what_was_changed(
    daemon: Daemon,
) -> None:
    for number in range(5):
        daemon.call("policy.add", action="deny", tool=f"Tool{number}")
    refused(daemon, "policy.remove", id="po_nothing")
    found = daemon.call("audit.verify")
    assert (found["is_whole"], found["entries"]) == (True, 7)
    for _ in range(40):
        refused(daemon, "policy.remove", id="po_nothing")
    daemon.stop()
    connection = sqlite3.connect(daemon.view / "state" / "hivectl.db")

    def rows() -> list[audit.Row]:
        found = connection.execute("SELECT id, at_us, body, hash FROM audit ORDER BY id")
        return [audit.Row(*row) for row in found]

    whole = rows()
    anchor = (whole[-1].id, whole[-1].hash)
    assert audit.verify(whole, anchor=anchor) is None
    noted = found["anchor"].partition(":")
    assert audit.verify(whole, anchor=(int(noted[0]), noted[2])) is None
    # What was refused without end has a few entries and a number, written at the stop at the latest.
    assert (
        sum(
            json.loads(row.body).get("count", 1)
            for row in whole[6:]
            if "po_nothing" in row.body or '"count"' in row.body
        )
        == 41
    )
    assert len(whole) < 6 + 41
    methods = [json.loads(row.body)["method"] for row in whole]
    assert methods[:6] == ["project.create", *["policy.add"] * 5]
    refusal = json.loads(whole[6].body)
    assert (refusal["method"], refusal["outcome"]) == ("policy.remove", "POLICY_NOT_FOUND")
    assert refusal["actor"].startswith("user:")
    assert refusal["peer"].startswith("unix pid=")
    for statement in (
        "UPDATE audit SET body = '{}' WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.execute("DROP TRIGGER audit_keeps")
    connection.execute(
        "UPDATE audit SET body = replace(body, 'policy.add', 'policy.sub') WHERE id = 3"
    )
    fault = audit.verify(rows())
    assert fault is not None
    assert fault.id == 3
    connection.close()


def test_s47_errors_tell_nothing_of_other_projects_sql_or_code(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    daemon.project("hidden")
    connection = sqlite3.connect(daemon.view / "state" / "hivectl.db")
    connection.execute("DROP TABLE approvals")
    connection.commit()
    connection.close()
    for method, params in (
        ("approval.list", {}),
        ("execution.list", {}),
        ("approval.get", {"id": "a_1"}),
    ):
        with pytest.raises(RpcError) as caught:
            daemon.call(method, **params)
        text = json.dumps(caught.value.error)
        for telling in ("SELECT", "sqlite", "no such table", "Traceback", ".py", str(daemon.root)):
            assert telling not in text, (method, telling)
    eventually(daemon.is_answering)


def test_s06_forwarded_headers_change_nothing(shared: Daemon) -> None:
    token = (shared.view / "state" / "token").read_text().strip()
    host, _, port = shared.call("health")["tcp"].rpartition(":")
    body = b'{"jsonrpc":"2.0","id":1,"method":"whoami","params":{}}'

    def ask(*headers: str, known: bool) -> tuple[int, dict[str, Any]]:
        lines = [
            "POST /rpc HTTP/1.1", f"Host: {host}:{port}", "Content-Type: application/json", "Connection: close",
            f"Content-Length: {len(body)}", *headers, *([f"Authorization: Bearer {token}"] if known else []),
        ]  # fmt: skip
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            data = b""
            while part := sock.recv(65536):
                data += part
        head, _, content = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)

    forwarded = [
        "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Real-IP: 10.0.0.1",
        "Forwarded: for=10.0.0.1;host=evil.example;proto=https", "X-Forwarded-User: root", "X-Remote-User: root",
    ]  # fmt: skip
    plain, with_headers = ask(known=True), ask(*forwarded, known=True)
    assert plain[0] == with_headers[0] == 200
    for answer in (plain[1]["result"], with_headers[1]["result"]):
        answer.pop("peer", None)
    assert plain[1]["result"] == with_headers[1]["result"]
    assert "10.0.0.1" not in json.dumps(with_headers)
    assert ask(*forwarded, known=False)[0] == 401

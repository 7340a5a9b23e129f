"""S29: which executable may be started, and what is known of it."""

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hivectl.agents import claude
from hivectl.agents.claude import ClaudeAgent
from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.model.errors import HiveError
from hivectl.model.work import Options
from hivectl.ports import RunSpec

SPEC = RunSpec(
    execution="x_1",
    prompt="hi",
    prompt_uuid="00000000-0000-4000-8000-000000000001",
    cwd=Path("/"),
    session="11111111-1111-4111-8111-111111111111",
    resume=False,
    options=Options(),
    trusted=True,
    slash_commands=False,
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir(mode=0o755)
    return directory


def script(place: Path, body: str, *, name: str = "claude") -> Path:
    path = place / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def agent(bin_path: str | Path, **env: str) -> ClaudeAgent:
    return ClaudeAgent(str(bin_path), env={"PATH": "/usr/bin:/bin", **env})


async def refusal(subject: ClaudeAgent) -> HiveError:
    with pytest.raises(HiveError) as caught:
        await subject.probe()
    assert caught.value.message
    assert caught.value.hint
    return caught.value


async def test_the_version_is_asked_and_the_configured_path_kept(place: Path) -> None:
    real = script(place, 'echo "2.1.329 (Claude Code)"', name="claude-2.1.329")
    link = place / "claude"
    link.symlink_to(real)
    info = await agent(link).probe()
    assert (info.path, info.version) == (link, "2.1.329")


async def test_a_bare_name_is_looked_up_in_path_once(place: Path, tmp_path: Path) -> None:
    path = script(place, "echo 2.1.329")
    subject = agent("claude", PATH=f"{place}:/usr/bin:/bin")
    assert (await subject.probe()).path == path
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    script(earlier, "echo 2.1.400")
    assert (await subject.probe()).path == path


async def test_what_is_not_there_is_not_found(place: Path) -> None:
    for subject in (
        agent("no-such-claude"),
        agent(place / "claude"),
        agent("bin/claude"),
        agent(place),
    ):
        assert (await refusal(subject)).code == "CLAUDE_NOT_FOUND"
    (place / "loop").symlink_to(place / "loop")
    assert (await refusal(agent(place / "loop"))).code == "CLAUDE_NOT_FOUND"


async def test_a_relative_entry_of_path_is_never_used(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(place, "echo 2.1.329")
    monkeypatch.chdir(place)
    assert (await refusal(agent("claude", PATH="."))).code == "CLAUDE_NOT_FOUND"


@pytest.mark.parametrize(
    "printed", ["2.1.196 (Claude Code)", "1.9.999", "2.0.9999", "hello", "", "v2.1.329"]
)
async def test_an_old_or_unknown_version_is_refused(place: Path, printed: str) -> None:
    assert (await refusal(agent(script(place, f"echo '{printed}'")))).code == "CLAUDE_VERSION"


@pytest.mark.parametrize("printed", ["2.1.197", "2.2.0 (Claude Code)", "10.0.0", "2.1.1000"])
async def test_the_minimum_and_every_newer_version_will_do(place: Path, printed: str) -> None:
    assert (await agent(script(place, f"echo '{printed}'")).probe()).version == printed.split(
        maxsplit=1
    )[0]


async def test_the_version_is_asked_again_only_when_the_file_is_another_one(place: Path) -> None:
    count = place.parent / "count"
    path = script(place, f"echo x >> {count}; echo 2.1.329")
    subject = agent(path)
    for _ in range(3):
        await subject.probe()
    assert count.read_text() == "x\n"
    newer = script(place, f"echo x >> {count}; echo 2.1.330", name="newer")
    newer.rename(path)
    assert (await subject.probe()).version == "2.1.330"
    assert count.read_text() == "x\nx\n"


async def test_a_failing_or_broken_executable_is_named(place: Path) -> None:
    error = await refusal(agent(script(place, "exit 3")))
    assert (error.code, error.details["exit_code"]) == ("SPAWN_FAILED", 3)
    path = script(place, "", name="broken")
    path.write_bytes(b"#!/no/such/interpreter\n")
    assert (await refusal(agent(path))).code == "SPAWN_FAILED"


async def test_a_version_that_never_comes_is_given_up_and_its_tree_ended(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claude, "PROBE_LIMIT_S", 0.5)
    pid_file = place.parent / "pid"
    path = script(place, f"sleep 60 & echo $! > {pid_file}; wait")
    error = await refusal(agent(path))
    assert (error.code, "did not answer" in error.message) == ("SPAWN_FAILED", True)
    deadline = time.monotonic() + 5
    while _is_running(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(int(pid_file.read_text()))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


async def test_endless_output_of_the_version_costs_no_memory(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claude, "PROBE_LIMIT_S", 0.5)
    assert (await refusal(agent(script(place, "yes 2.1.329")))).code == "SPAWN_FAILED"


def _group_writable(path: Path) -> None:
    path.chmod(0o775)


def _world_writable(path: Path) -> None:
    path.chmod(0o757)


@pytest.mark.parametrize("on", ["file", "directory", "real directory"])
async def test_s29_what_others_could_change_is_not_started(place: Path, on: str) -> None:
    real_place = place / "versions"
    real_place.mkdir(mode=0o755)
    real = script(real_place, "echo 2.1.329", name="claude-2")
    link = place / "claude"
    link.symlink_to(real)
    target = {"file": real, "directory": place, "real directory": real_place}[on]
    _world_writable(target)
    error = await refusal(agent(link))
    assert (error.code, "every user" in error.message) == ("SPAWN_FAILED", True)
    target.chmod(0o755)
    assert (await agent(link).probe()).version == "2.1.329"


@pytest.mark.parametrize(("safe", "works"), [(lambda gid: False, False), (lambda gid: True, True)])
async def test_s29_a_group_counts_unless_it_gives_nobody_new_rights(
    place: Path, monkeypatch: pytest.MonkeyPatch, safe: Callable[[int], bool], works: bool
) -> None:
    path = script(place, "echo 2.1.329")
    _group_writable(path)
    monkeypatch.setattr(claude, "_is_safe_group", safe)
    if works:
        assert (await agent(path).probe()).version == "2.1.329"
    else:
        assert "by its group" in (await refusal(agent(path))).message


def test_s29_only_root_administrators_and_private_groups_are_safe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Entry:
        def __init__(self, **fields: object) -> None:
            self.__dict__.update(fields)

    me = Entry(pw_name="dev", pw_gid=1000)
    groups = {
        1000: Entry(gr_name="dev", gr_mem=[]),
        80: Entry(gr_name="admin", gr_mem=["a", "b"]),
        50: Entry(gr_name="staff", gr_mem=["dev"]),
    }
    monkeypatch.setattr(claude.pwd, "getpwuid", lambda uid: me)
    monkeypatch.setattr(claude.grp, "getgrgid", lambda gid: groups[gid])
    assert {gid: claude._is_safe_group(gid) for gid in (0, 1000, 80, 50, 7)} == {
        0: True, 1000: True, 80: True, 50: False, 7: False,
    }  # fmt: skip
    groups[1000] = Entry(gr_name="dev", gr_mem=["dev", "mallory"])
    assert not claude._is_safe_group(1000)


async def test_s29_an_executable_of_another_user_is_not_started(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(place, "echo 2.1.329")
    monkeypatch.setattr(claude.os, "getuid", lambda: path.stat().st_uid + 1)
    found = path.stat()
    if found.st_uid == 0:
        os.chown(path, 12345, -1)
    assert "another user" in (await refusal(agent(path))).message


async def test_a_file_that_cannot_be_executed_is_refused(place: Path) -> None:
    path = script(place, "echo 2.1.329")
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    error = await refusal(agent(path))
    assert (error.code, "not executable" in error.message) == ("SPAWN_FAILED", True)


async def test_s26_asking_for_the_version_leaks_no_secret(place: Path) -> None:
    seen = place.parent / "seen"
    path = script(place, f"env > {seen}; echo 2.1.329")
    subject = ClaudeAgent(
        str(path),
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL": "canary", "LC_ALL": "C"},
        additions={"EXTRA": "1"},
    )
    await subject.probe()
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "DATABASE_URL" not in names
    assert {"PATH", "LC_ALL", "EXTRA"} <= names


@pytest.mark.parametrize(
    ("env", "login"),
    [
        ({"ANTHROPIC_API_KEY": "k"}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_AUTH_TOKEN": "k"}, "ANTHROPIC_AUTH_TOKEN"),
        ({"CLAUDE_CODE_OAUTH_TOKEN": "k"}, "CLAUDE_CODE_OAUTH_TOKEN"),
        ({"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_API_KEY": "k"}, "bedrock"),
        ({"CLAUDE_CODE_USE_VERTEX": "true"}, "vertex"),
        ({"CLAUDE_CODE_USE_VERTEX": "0"}, ""),
        ({"HOME": "/no/such/home"}, ""),
        ({"CLAUDE_CONFIG_DIR": "\0"}, ""),
        ({"CLAUDE_CONFIG_DIR": "/" + "x" * 5000}, ""),
    ],
)
async def test_the_login_is_told_from_what_exists(
    place: Path, env: dict[str, str], login: str
) -> None:
    path = script(place, "echo 2.1.329")
    subject = agent(path)
    await subject.probe()
    subject._env = {"PATH": "/usr/bin:/bin", **env}
    assert (await subject.probe()).login == login


async def test_a_credentials_file_is_seen_and_not_read(place: Path, tmp_path: Path) -> None:
    path = script(place, "echo 2.1.329")
    config = tmp_path / "home" / ".claude"
    config.mkdir(parents=True)
    (config / ".credentials.json").write_text("{}")
    (config / ".credentials.json").chmod(0)
    assert (await agent(path, HOME=str(tmp_path / "home")).probe()).login == "credentials file"
    assert (await agent(path, CLAUDE_CONFIG_DIR=str(config)).probe()).login == "credentials file"


def _fake_mock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    package = tmp_path / "site" / "mock_claude"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(body)
    monkeypatch.setattr(claude, "_mock_home", lambda: str(package.parent))


async def test_the_word_mock_runs_the_mock_with_this_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_mock(tmp_path, monkeypatch, "print('2.1.329 (Claude Code)')")
    subject = agent("mock")
    info = await subject.probe()
    assert (info.path, info.version, info.login) == (Path(sys.executable), "2.1.329", "mock")
    launch = subject.launch(SPEC, info)
    assert launch.argv[:5] == (sys.executable, "-P", "-m", "mock_claude", "-p")
    assert launch.env["PYTHONPATH"] == str(tmp_path / "site")


async def test_a_mock_that_cannot_be_run_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_mock(tmp_path, monkeypatch, "raise SystemExit(1)")
    assert (await refusal(agent("mock"))).code == "CLAUDE_NOT_FOUND"


async def test_the_real_mock_is_found() -> None:
    pytest.importorskip("mock_claude.__main__")
    assert (await agent("mock").probe()).version == "2.1.329"


async def test_launch_and_conversation_belong_to_the_same_run(place: Path) -> None:
    path = script(place, "echo 2.1.329")
    subject = agent(path)
    launch = subject.launch(SPEC, await subject.probe())
    assert launch.argv[0] == str(path)
    assert "PYTHONPATH" not in launch.env
    conversation = subject.conversation(SPEC, offset=12)
    assert isinstance(conversation, ClaudeConversation)
    assert conversation.consumed == 12
    assert launch.interrupt_frame == conversation.interrupt()[1]

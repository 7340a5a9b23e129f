"""What a project's directory brings, and whether it is still the one that was registered."""

from pathlib import Path

import pytest

from hivectl.engine import directory
from hivectl.model.errors import HiveError


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "web"
    (root / ".claude").mkdir(parents=True)
    (root / ".claude/settings.json").write_text(
        '{"hooks":{"SessionStart":[{"hooks":[{"type":"command","command":"sh .claude/go.sh"}]}]}}'
    )
    (root / ".claude/go.sh").write_text("echo hi")
    return root


def test_hooks_are_shown_and_a_change_of_their_script_changes_the_hash(project):
    before = directory.inspect(project)
    assert any("go.sh" in line for line in before.hooks)
    (project / ".claude/go.sh").write_text("echo other")
    assert directory.inspect(project).hash != before.hash


def test_claude_may_write_its_own_instructions_without_losing_trust(project):
    before = directory.inspect(project).hash
    (project / "CLAUDE.md").write_text("Be kind.")
    after = directory.inspect(project)
    assert after.claude_md
    assert after.hash == before


@pytest.mark.parametrize("kind", ["a link out", "a linked directory", "an unreadable object"])
def test_what_cannot_be_read_cannot_be_trusted(project, tmp_path, kind):
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "x.json").write_text("{}")
    if kind == "a link out":
        (project / ".mcp.json").symlink_to(secret / "x.json")
    elif kind == "a linked directory":
        (project / "hidden").mkdir()
        (project / ".claude/agents").symlink_to(project / "hidden")
    else:
        (project / ".mcp.json").write_text("{ not json")
    with pytest.raises(HiveError) as caught:
        directory.vouch(project)
    assert caught.value.code == "PROJECT_UNTRUSTED"
    assert caught.value.details["problems"]


def test_an_empty_repository_can_be_trusted(tmp_path):
    assert directory.vouch(tmp_path).is_empty


class Registered:
    def __init__(self, path: Path) -> None:
        found = path.stat()
        self.name, self.path, self.dev, self.ino = "web", str(path), found.st_dev, found.st_ino


def test_a_directory_that_was_replaced_or_is_gone_is_noticed(project, tmp_path):
    registered = Registered(project)
    directory.check_identity(registered)
    project.rename(tmp_path / "old")
    with pytest.raises(HiveError) as gone:
        directory.check_identity(registered)
    assert gone.value.code == "PATH_CHANGED"
    (tmp_path / "new").mkdir()
    (tmp_path / "new").rename(project)
    with pytest.raises(HiveError) as other:
        directory.check_identity(registered)
    assert other.value.code == "PATH_CHANGED"
    project.rmdir()
    project.symlink_to(tmp_path / "old")
    with pytest.raises(HiveError) as linked:
        directory.check_identity(registered)
    assert linked.value.code == "PATH_CHANGED"

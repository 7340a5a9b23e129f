"""S32: which directories may be projects, each refusal with its own reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.logic import paths
from hivectl.logic.paths import PathFacts, Surroundings
from hivectl.model.errors import HiveError

AROUND = Surroundings(
    home="/home/dev",
    roots=("/home/dev", "/tmp"),
    state_dirs=("/home/dev/.local/state/hivectl", "/tmp/hive/state"),
    worktrees="/home/dev/.data/hive/worktrees",
    claude_dirs=("/home/dev/claude-config",),
    projects={"web": "/home/dev/work/web"},
)


def check(real: str, *, path: str = "", exists: bool = True, is_dir: bool = True) -> None:
    facts = PathFacts(path=path or real, real=real, exists=exists, is_dir=is_dir)
    paths.check_project_path(facts, AROUND)


def refusal(real: str, **facts: object) -> tuple[str, str]:
    with pytest.raises(HiveError) as caught:
        check(real, **facts)  # type: ignore[arg-type]
    assert caught.value.message
    return caught.value.code, caught.value.details["reason"]


@pytest.mark.parametrize(
    "real",
    [
        "/home/dev/work/api",
        "/home/dev/work/web2",
        "/tmp/x",
        "/home/dev/.sshx",
        "/home/dev/ä b",
        "/home/dev/.config/x",
        "/tmp/hive/project",
    ],
)
def test_a_directory_of_your_own_may_be_a_project(real: str) -> None:
    check(real)


@pytest.mark.parametrize(
    ("real", "facts", "expected"),
    [
        ("/home/dev/x", {"path": "x"}, ("INVALID_PATH", "not_absolute")),
        ("/home/dev/x", {"path": ""}, ("INVALID_PATH", "not_found")),
        ("/home/dev/x", {"path": "/a\0b"}, ("INVALID_PATH", "control_characters")),
        ("/home/dev/x", {"path": "/a\nb"}, ("INVALID_PATH", "control_characters")),
        ("/home/dev/x", {"path": "/a\ud800"}, ("INVALID_PATH", "control_characters")),
        ("/home/dev/a\x9bb", {"path": "/link"}, ("INVALID_PATH", "control_characters")),
        ("/home/dev/x", {"path": "/" + "ä" * 2048}, ("INVALID_PATH", "too_long")),
        ("/home/dev/x", {"exists": False}, ("INVALID_PATH", "not_found")),
        ("/home/dev/x", {"is_dir": False}, ("INVALID_PATH", "not_a_directory")),
        ("/", {}, ("INVALID_PATH", "is_root")),
        ("//", {}, ("INVALID_PATH", "is_root")),
        ("/home/dev", {}, ("INVALID_PATH", "is_home")),
        ("/home/dev/.local/state/hivectl", {}, ("INVALID_PATH", "hivectl_state")),
        ("/home/dev/.local/state/hivectl/p", {}, ("INVALID_PATH", "hivectl_state")),
        ("/tmp/hive/state", {}, ("INVALID_PATH", "hivectl_state")),
        ("/tmp/hive", {}, ("INVALID_PATH", "above_hivectl_state")),
        ("/home/dev/.local", {}, ("INVALID_PATH", "above_hivectl_state")),
        ("/home/dev/.data/hive/worktrees/p_1/wt_1", {}, ("INVALID_PATH", "worktrees")),
        ("/home/dev/.data/hive", {}, ("INVALID_PATH", "above_worktrees")),
        ("/home/dev/.claude", {}, ("INVALID_PATH", "claude_state")),
        ("/home/dev/.claude/projects", {}, ("INVALID_PATH", "claude_state")),
        ("/home/dev/.CLAUDE", {}, ("INVALID_PATH", "claude_state")),
        ("/home/dev/claude-config/x", {}, ("INVALID_PATH", "claude_state")),
        ("/home/dev/.ssh", {}, ("INVALID_PATH", "ssh")),
        ("/home/dev/.Ssh/keys", {}, ("INVALID_PATH", "ssh")),
        ("/home", {}, ("INVALID_PATH", "above_hivectl_state")),
        ("/etc", {}, ("PATH_NOT_ALLOWED", "outside_roots")),
        ("/home/devil/x", {}, ("PATH_NOT_ALLOWED", "outside_roots")),
        ("/home/dev/work/web", {}, ("PROJECT_EXISTS", "same_path")),
        ("/home/dev/work/web/ui", {}, ("PROJECT_NESTING", "inside_project")),
        ("/home/dev/work", {}, ("PROJECT_NESTING", "above_project")),
    ],
)
def test_s32_everything_else_is_refused_with_its_own_reason(
    real: str, facts: dict[str, object], expected: tuple[str, str]
) -> None:
    if facts.get("path") == "":
        facts = {"exists": False}
    assert refusal(real, **facts) == expected


def test_names_in_another_unicode_form_are_the_same_protected_place() -> None:
    around = Surroundings(home="/home/dev", roots=("/",), state_dirs=("/home/dev/h\u00efve",))
    facts = PathFacts(path="/x", real="/home/dev/hi\u0308ve", exists=True, is_dir=True)
    with pytest.raises(HiveError, match="own state"):
        paths.check_project_path(facts, around)


def test_without_roots_nothing_may_be_a_project() -> None:
    facts = PathFacts(path="/x", real="/x", exists=True, is_dir=True)
    with pytest.raises(HiveError, match="none"):
        paths.check_project_path(facts, Surroundings(home="/home/dev", roots=()))


@given(st.text(st.characters(codec=None), max_size=30))
def test_s32_no_text_breaks_the_check_and_the_message_can_be_shown(path: str) -> None:
    facts = PathFacts(path=path, real="/etc/" + path, exists=True, is_dir=True)
    with pytest.raises(HiveError) as caught:
        paths.check_project_path(facts, AROUND)
    caught.value.message.encode()


@given(st.lists(st.sampled_from(["home", "dev", ".ssh", ".SSH", "work", "web", "x"]), max_size=5))
def test_s32_whatever_is_accepted_lies_in_a_root_and_near_nothing_secret(names: list[str]) -> None:
    real = "/" + "/".join(names)
    try:
        check(real)
    except HiveError:
        return
    assert names[:2] == ["home", "dev"]
    assert len(names) > 2
    assert names[2].casefold() != ".ssh"
    assert names[2:4] != ["work", "web"]


@pytest.mark.parametrize("name", ["web", "a", "0", "a.b-c", "a-b_c", "x" * 64, "1_a"])
def test_a_name_follows_the_rule(name: str) -> None:
    paths.check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "Web", ".a", "-a", "_a", "a b", "a/b", "ä", "x" * 65, "p_1", "web_app", "x_", "a\n"],
)
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(HiveError) as caught:
        paths.check_name(name)
    assert caught.value.details["errors"][0]["field"] == "name"


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("/home/dev/Web App", "web-app"),
        ("/home/dev/my_project", "my-project"),
        ("/home/dev/.dotfiles", "dotfiles"),
        ("/home/dev/Über", "uber"),
        ("/home/dev/日本", "project"),
        ("/", "project"),
        ("/a/" + "x" * 100, "x" * 64),
        ("/a/" + "x" * 63 + ".y", "x" * 63),
    ],
)
def test_a_directory_gives_its_name(directory: str, name: str) -> None:
    assert paths.name_for(directory) == name


@given(st.text(max_size=100))
def test_a_given_name_always_follows_the_rule(directory: str) -> None:
    paths.check_name(paths.name_for("/" + directory))


def test_a_path_outside_the_roots_comes_with_the_command_that_allows_it() -> None:
    with pytest.raises(HiveError) as caught:
        check("/srv/my code/web")
    assert "`hivectl config set projects.roots '/home/dev,/tmp,/srv/my code'`" in caught.value.hint
    for real in ("/web", "/srv/a,b/web"):
        with pytest.raises(HiveError) as caught:
            check(real)
        assert "config set" not in caught.value.hint

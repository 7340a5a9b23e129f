"""Rules: structured, whole-valued, and they fail closed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.logic import policy
from hivectl.logic.policy import ASK, Place, Policy, Verdict
from hivectl.model.errors import HiveError

HERE = Place("p_1", "/home/dev/project")


def rule(
    action: str, tool: str, *, project: str | None = None, id_: str = "y_1", **match: str
) -> Policy:
    return Policy(id=id_, action=action, tool=tool, match=match, project=project)  # type: ignore[arg-type]


def decide(
    rules: list[Policy] | Policy,
    tool: str,
    input_: dict[str, Any] | None = None,
    *,
    place: Place = HERE,
    is_question: bool = False,
) -> Verdict:
    listed = [rules] if isinstance(rules, Policy) else rules
    return policy.decide(listed, tool, input_ or {}, is_question=is_question, place=place)


def action(rules: list[Policy] | Policy, tool: str, **input_: Any) -> str:
    return decide(rules, tool, input_).action


# --- order, tools, scope -----------------------------------------------------------------------------


def test_without_a_rule_a_person_is_asked() -> None:
    assert decide([], "Bash", {"command": "ls"}) == ASK


def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        rule("deny", "Bash", id_="y_1", command="rm *"),
        rule("ask", "Bash", id_="y_2", command="rmdir *"),
        rule("allow", "Bash", id_="y_3"),
    ]
    assert decide(rules, "Bash", {"command": "rm x"}) == Verdict("deny", "y_1")
    assert decide(rules, "Bash", {"command": "rmdir x"}) == Verdict("ask", "y_2")
    assert decide(rules, "Bash", {"command": "ls"}) == Verdict("allow", "y_3")
    assert decide(rules, "Write", {"file_path": "/x"}) == ASK


def test_tools_are_matched_by_name_or_glob() -> None:
    assert action(rule("allow", "mcp__db__*"), "mcp__db__read") == "allow"
    assert action(rule("allow", "mcp__db__*"), "mcp__other__read") == "ask"
    assert action(rule("allow", "Read"), "ReadAll") == "ask"


def test_a_rule_of_a_project_is_for_that_project_alone() -> None:
    assert action(rule("allow", "Read", project="p_1"), "Read") == "allow"
    assert action(rule("allow", "Read", project="p_2"), "Read") == "ask"


@pytest.mark.parametrize("tool", ["AskUserQuestion", "ExitPlanMode", "Bash"])
def test_no_allow_rule_covers_a_question(tool: str) -> None:
    for pattern in ("*", tool):
        assert decide(rule("allow", pattern), tool, is_question=True) == ASK
    assert decide(rule("deny", tool), tool, is_question=True).action == "deny"


def test_questions_are_known_by_name_too() -> None:
    assert decide(rule("allow", "*"), "AskUserQuestion") == ASK


# --- commands ----------------------------------------------------------------------------------------

GIT = rule("allow", "Bash", command="git *")


@pytest.mark.parametrize(
    "command",
    [
        "git status",
        "git commit -m 'a fix'",
        'git log --format="%h %s"',
        "git add src/ä.py",
        "git  diff",
    ],
)
def test_a_command_rule_covers_plain_commands(command: str) -> None:
    assert action(GIT, "Bash", command=command) == "allow"


@pytest.mark.parametrize(
    "command",
    [
        "git x; rm -rf /", "git x && rm y", "git x || rm y", "git x | sh", "git x & rm y",
        "git x\nrm y", "git x\rrm y", "git $(rm y)", "git `rm y`", "git x > /etc/passwd",
        "git < /etc/shadow", "git <(rm y)", "git ${IFS}x", "git $HOME", "git \\\nrm", "git x \\; rm",
        "git 'a'; rm y", 'git "a$(rm y)"', "git x #", "git {a,b}", "git x\0", "git x\x85y",
        "git x\u2028y", "git\tstatus", " git status", "GIT status", "git", "echo git x", "",
        "git " + "x" * 40_000,
    ],
)  # fmt: skip
def test_a_command_rule_never_covers_anything_with_a_meaning_to_the_shell(command: str) -> None:
    assert action(GIT, "Bash", command=command) == "ask"


@given(
    st.text(max_size=10),
    st.sampled_from(
        [";", "&", "|", "`", "$", "(", ")", "<", ">", "\n", "\r", "\\", "{", "}", "#", "\0"]
    ),
    st.text(max_size=10),
)
def test_no_text_around_a_shell_character_makes_it_allowed(
    before: str, letter: str, after: str
) -> None:
    assert action(GIT, "Bash", command=f"git {before}{letter}{after}") == "ask"


@given(st.text(max_size=40))
def test_whatever_is_allowed_is_one_simple_command(text: str) -> None:
    command = f"git {text}"
    if action(GIT, "Bash", command=command) == "allow":
        assert not set(command) & set(";&|<>$`(){}\\#\n\r\0")
        assert command.isprintable()


def test_two_wild_cards_cannot_hide_what_stands_between_them_in_quotes() -> None:
    dry = rule("allow", "Bash", command="git push * --dry-run *")
    assert action(dry, "Bash", command="git push origin --dry-run x") == "allow"
    assert action(dry, "Bash", command='git push "a --dry-run b"') == "ask"
    assert (
        action(rule("allow", "Bash", command="make * > log"), "Bash", command="make 'a > log")
        == "ask"
    )


def test_what_the_rule_itself_says_is_allowed_literally() -> None:
    chained = rule("allow", "Bash", command="cd src && make *")
    assert action(chained, "Bash", command="cd src && make all") == "allow"
    assert action(chained, "Bash", command="cd src && make all && x") == "ask"
    exact = rule("allow", "Bash", command="make | tee log")
    assert action(exact, "Bash", command="make | tee log") == "allow"


@pytest.mark.parametrize("value", [None, ["git status"], {"a": "git status"}, 5])
def test_an_input_of_another_shape_is_not_covered(value: object) -> None:
    assert action(GIT, "Bash", command=value) == "ask"


def test_every_named_field_must_match_and_be_there() -> None:
    both = rule("allow", "Bash", command="ls", run_in_background="false")
    assert action(both, "Bash", command="ls", run_in_background=False) == "allow"
    assert action(both, "Bash", command="ls", run_in_background=True) == "ask"
    assert action(both, "Bash", command="ls") == "ask"


def test_leaving_the_sandbox_is_covered_only_by_a_rule_that_says_so() -> None:
    asked = {"command": "ls", "dangerouslyDisableSandbox": True}
    assert decide(rule("allow", "Bash"), "Bash", asked) == ASK
    assert decide(rule("allow", "Bash", command="ls"), "Bash", asked) == ASK
    named = rule("allow", "Bash", command="ls", dangerouslyDisableSandbox="true")
    assert decide(named, "Bash", asked).action == "allow"
    assert decide(rule("deny", "Bash"), "Bash", asked).action == "deny"


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf x",
        "ls; rm x",
        "ls && rm x",
        "(rm x)",
        "ls | rm x",
        "echo $(rm x)",
        "a\nrm x",
        "`rm x`",
        "rm " + "x" * 40_000,
    ],
)
def test_a_deny_rule_finds_a_command_inside_a_compound_one(command: str) -> None:
    assert (
        action(
            [rule("deny", "Bash", command="rm *"), rule("allow", "Bash")], "Bash", command=command
        )
        == "deny"
    )


def test_a_deny_rule_looks_into_lists_and_leaves_others_alone() -> None:
    rules = [rule("deny", "X", word="bad*"), rule("allow", "X")]
    assert action(rules, "X", word=["ok", {"deep": ["bad one"]}]) == "deny"
    assert action(rules, "X", word=["ok", None]) == "allow"
    assert action(rules, "X", other="bad") == "allow"
    nested: Any = "bad"
    for _ in range(50_000):
        nested = [nested]
    assert action(rules, "X", word=nested) == "deny"


def test_a_rule_that_cannot_be_read_allows_nothing_and_stops_what_it_should() -> None:
    assert action(rule("allow", "Bash", command="git \\"), "Bash", command="git \\") == "ask"
    assert action(rule("deny", "Bash", command="git \\"), "Bash", command="git x") == "deny"
    assert (
        action(rule("allow", "Write", file_path="../*"), "Write", file_path="/home/dev/x") == "ask"
    )


# --- paths -------------------------------------------------------------------------------------------

SRC = rule("allow", "Write", file_path="src/**")


@pytest.mark.parametrize(
    "path", ["/home/dev/project/src/a.py", "/home/dev/project/src/x/y.py", "src/a b.py"]
)
def test_a_path_rule_covers_what_lies_below(path: str) -> None:
    assert action(SRC, "Write", file_path=path) == "allow"


@pytest.mark.parametrize(
    "path",
    [
        "/home/dev/project/src/../.git/hooks/x", "src/../../x", "/home/dev/project/src/./a",
        "/home/dev/project//src/a", "/home/dev/project/src/a/", "/home/dev/project/srcs/a",
        "/home/dev/src/a", "/etc/passwd", "~/src/a", "", "/", "src/.git/config", "src/a\0", "src/a\nb",
        "/proc/self/root/home/dev/project/src/a", "/home/dev/project/SRC/a",
    ],
)  # fmt: skip
def test_a_path_rule_covers_no_other_spelling_and_no_way_out(path: str) -> None:
    assert action(SRC, "Write", file_path=path) == "ask"


@given(st.lists(st.sampled_from(["src", "..", ".", "", "a", ".git", "\0"]), max_size=6))
def test_no_path_with_dots_is_ever_allowed(names: list[str]) -> None:
    path = "/home/dev/project/" + "/".join(names)
    if action(SRC, "Write", file_path=path) == "allow":
        assert path.startswith("/home/dev/project/src")
        assert not {"..", ".", "", ".git", "\0"} & set(path[1:].split("/"))


def test_an_absolute_pattern_is_for_absolute_places() -> None:
    data = rule("allow", "Read", file_path="/srv/data/*")
    assert action(data, "Read", file_path="/srv/data/x") == "allow"
    assert action(data, "Read", file_path="/srv/data/x/y") == "ask"
    assert action(data, "Read", file_path="srv/data/x") == "ask"


def linked(links: dict[str, str]) -> Place:
    def resolve(path: str) -> str:
        for name, target in links.items():
            if path == name or path.startswith(name + "/"):
                return target + path[len(name) :]
        return path

    return Place("p_1", "/home/dev/project", resolve)


def test_a_link_leads_nowhere_the_rule_does_not() -> None:
    place = linked(
        {"/home/dev/project/src/out": "/etc", "/home/dev/project/src/in": "/home/dev/project/src/x"}
    )
    for path, expected in (("src/out/passwd", "ask"), ("src/in/a", "allow"), ("src/a", "allow")):
        assert decide(SRC, "Write", {"file_path": path}, place=place).action == expected


def test_a_project_behind_a_link_keeps_its_rules() -> None:
    place = linked({"/home/dev/project": "/mnt/disk/project"})
    assert (
        decide(SRC, "Write", {"file_path": "/home/dev/project/src/a"}, place=place).action
        == "allow"
    )


@pytest.mark.parametrize(
    "path",
    [
        "secret/a",
        "/home/dev/project/secret/a",
        "src/../secret/a",
        "./secret//a",
        "secret/.hidden",
        "src/link/a",
    ],
)
def test_a_deny_rule_finds_a_path_in_any_spelling(path: str) -> None:
    place = linked({"/home/dev/project/src/link": "/home/dev/project/secret"})
    rules = [rule("deny", "Read", file_path="secret/**"), rule("allow", "Read")]
    assert decide(rules, "Read", {"file_path": path}, place=place).action == "deny"
    assert decide(rules, "Read", {"file_path": "src/a"}, place=place).action == "allow"


# --- URLs and other values ---------------------------------------------------------------------------

DOCS = rule("allow", "WebFetch", url="https://docs.python.org/*")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://docs.python.org/3/", "allow"),
        ("https://docs.python.org", "allow"),
        ("https://DOCS.python.org/3/?q=1#x", "allow"),
        ("http://docs.python.org/3/", "ask"),
        ("https://docs.python.org.evil.org/3/", "ask"),
        ("https://docs.python.org@evil.org/", "ask"),
        ("https://evil.org\\@docs.python.org/", "ask"),
        ("https://docs.python.org:8443/", "ask"),
        ("https://docs.python.org:port/", "ask"),
        ("https://evil.org/https://docs.python.org/", "ask"),
        ("https://docs.python.org/a b", "ask"),
        ("https://docs.python.org/a\n", "ask"),
        ("https://döcs.python.org/", "ask"),
        ("https://docs.python.org/3/../x", "ask"),
        ("https://docs.python.org/3/%2e%2e/x", "ask"),
        ("file:///etc/passwd", "ask"),
        ("https://[::1/", "ask"),
        ("docs.python.org", "ask"),
    ],
)
def test_a_url_is_compared_by_its_parts(url: str, expected: str) -> None:
    assert action(DOCS, "WebFetch", url=url) == expected


def test_wild_cards_in_hosts_stand_for_whole_hosts_below() -> None:
    below = rule("allow", "WebFetch", url="https://*.python.org/*")
    assert action(below, "WebFetch", url="https://docs.python.org/3") == "allow"
    assert action(below, "WebFetch", url="https://python.org/3") == "ask"
    assert action(below, "WebFetch", url="https://evilpython.org/3") == "ask"
    everything = rule("allow", "WebFetch", url="*")
    assert action(everything, "WebFetch", url="http://x.org/") == "allow"
    assert action(everything, "WebFetch", url="file:///etc/passwd") == "ask"
    nonsense = rule("allow", "WebFetch", url="docs*")
    assert action(nonsense, "WebFetch", url="docs.python.org") == "ask"


def test_a_deny_rule_for_a_host_does_not_care_about_case() -> None:
    rules = [rule("deny", "WebFetch", url="https://evil.org/*"), rule("allow", "WebFetch")]
    assert action(rules, "WebFetch", url="HTTPS://EVIL.org/x") == "deny"
    assert action(rules, "WebFetch", url="https://good.org/x") == "allow"


def test_other_values_are_matched_whole() -> None:
    search = rule("allow", "WebSearch", query="python *")
    assert action(search, "WebSearch", query="python asyncio; rm") == "allow"
    assert action(search, "WebSearch", query="about python x") == "ask"


# --- making rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (rule("permit", "Bash"), "action"),
        (rule("allow", ""), "tool"),
        (rule("allow", "Ba sh"), "tool"),
        (rule("allow", "Bash", **{f"f{n}": "x" for n in range(21)}), "match"),
        (Policy(id="", action="allow", tool="Bash", match={"a b": "x"}), "match.a b"),
        (rule("allow", "Bash", command="x\\"), "match.command"),
        (rule("allow", "Bash", command="*?" * 11), "match.command"),
        (rule("allow", "Write", file_path="src/../x"), "match.file_path"),
        (rule("allow", "Write", file_path="a\\/b"), "match.file_path"),
        (rule("allow", "WebFetch", url="docs*"), "match.url"),
    ],
)
def test_a_rule_that_could_not_be_read_later_is_refused(bad: Policy, field: str) -> None:
    with pytest.raises(HiveError) as caught:
        policy.validate_policy(bad)
    assert caught.value.code == "INVALID_PARAMS"
    assert [error["field"] for error in caught.value.details["errors"]] == [field]


@pytest.mark.parametrize(
    "good", [GIT, SRC, DOCS, rule("deny", "*"), rule("ask", "WebFetch", url="*")]
)
def test_a_rule_that_can_be_read_passes(good: Policy) -> None:
    policy.validate_policy(good)


@pytest.mark.parametrize(
    ("tool", "input_", "match"),
    [
        ("Bash", {"command": "git add *.py", "description": "x"}, {"command": "git add \\*.py"}),
        ("Bash", {"command": "make; make test"}, {"command": "make; make test"}),
        ("Write", {"file_path": "/p/.env", "content": "x"}, {"file_path": "/p/.env"}),
        ("WebFetch", {"url": "https://docs.python.org/3/x"}, {"url": "https://docs.python.org/*"}),
        ("WebSearch", {"query": "x"}, {}),
        ("mcp__db__read", {"sql": "x"}, {}),
        ("Skill", {"skill": "a*", "n": 5}, {"skill": "a\\*", "n": "5"}),
        ("Grep", {"pattern": "x", "path": "/p"}, {"path": "/p"}),
        ("Grep", {"pattern": "x"}, {"pattern": "x"}),
    ],
)
def test_remembering_covers_this_call_and_no_more_than_it_says(
    tool: str, input_: dict[str, Any], match: dict[str, str]
) -> None:
    draft = policy.remember(tool, input_, project="p_1")
    assert draft == Policy(id="", action="allow", tool=tool, match=match, project="p_1")
    assert decide(draft, tool, input_).action == "allow"
    assert decide(draft, "Other", input_) == ASK


def test_a_remembered_command_with_wild_cards_covers_only_itself() -> None:
    draft = policy.remember("Bash", {"command": "rm *.pyc"})
    assert action(draft, "Bash", command="rm a.pyc") == "ask"


@pytest.mark.parametrize(
    ("tool", "input_"),
    [
        ("AskUserQuestion", {}),
        ("ExitPlanMode", {}),
        ("Bash", {}),
        ("Bash", {"command": ["ls"]}),
        ("Bash", {"command": "x" * 40_000}),
        ("Bash", {"command": "ls", "dangerouslyDisableSandbox": True}),
        ("WebFetch", {"url": "file:///x"}),
        ("WebFetch", {"url": "https://*.org/"}),
        ("Write", {"file_path": "/a/../b"}),
        ("two words", {"a": "b"}),
        ("Write", {}),
        ("Skill", {"skill": "a", "more": [1]}),
    ],
)
def test_what_no_rule_should_let_through_for_ever_is_not_remembered(
    tool: str, input_: dict[str, Any]
) -> None:
    with pytest.raises(HiveError) as caught:
        policy.remember(tool, input_)
    assert caught.value.code == "INVALID_PARAMS"


@given(
    tool=st.sampled_from(["Bash", "Write", "WebFetch", "X"]),
    input_=st.dictionaries(
        st.sampled_from(["command", "file_path", "url", "other"]),
        st.one_of(st.text(max_size=20), st.integers(), st.none(), st.lists(st.text(max_size=3))),
    ),
)
def test_nothing_an_input_holds_breaks_the_rules(tool: str, input_: dict[str, Any]) -> None:
    rules = [
        GIT,
        SRC,
        DOCS,
        rule("deny", "Bash", command="rm *"),
        rule("deny", "Write", file_path="x/**"),
    ]
    assert decide(rules, tool, input_).action in policy.ACTIONS
    try:
        draft = policy.remember(tool, input_)
    except HiveError:
        return
    assert decide(draft, tool, input_, place=Place("", "/")).action == "allow"

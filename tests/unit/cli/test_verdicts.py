"""What the rules say of a call, for people."""

from hivectl.cli import verdicts

RULE = {"id": "po_1", "action": "deny", "tool": "Bash"}


def verdict(**fields):
    return {
        "action": "deny", "rule": RULE, "position": 2, "reason": "The tool is Bash, in every project.", "timeout_s": None,
        "on_timeout": None, "passed": [{"rule": "po_0", "why": "it is for the tool Write"}], "risk": "low",
        "risk_reason": "it only looks", **fields,
    }  # fmt: skip


def test_it_says_what_happens_by_which_rule_and_why_not_by_those_before():
    assert verdicts.text(verdict()).splitlines() == [
        "denied by rule po_1, number 2",
        "  The tool is Bash, in every project.",
        "  risk: low (it only looks)",
        "  tried before:",
        "    po_0: it is for the tool Write",
    ]


def test_without_a_rule_the_default_decides_and_a_person_has_so_long():
    found = verdicts.text(verdict(action="ask", rule=None, timeout_s=600.0, on_timeout="deny"))
    assert found.startswith("a person is asked by default\n")
    assert "when nobody answers within 10m: deny" in found


def test_of_very_many_rules_the_first_are_told():
    many = [{"rule": f"po_{n}", "why": "x"} for n in range(50)]
    assert "... and 30 more" in verdicts.text(verdict(passed=many))


def test_s42_what_comes_from_a_rule_obeys_no_terminal():
    found = verdicts.text(verdict(reason="\x1b[2Jgone\x07"))
    assert "\x1b" not in found
    assert "\x07" not in found


def test_a_rule_is_shown_whole_before_it_is_written():
    draft = {"tool": "Bash", "match": {"command": "ls \x1b[8m; rm x"}}
    lines = verdicts.rule_text(draft, action="allow", project="web")
    assert lines == ["allow Bash, in web, from now on", "  where command is ls \\x1b[8m; rm x"]
    assert (
        "whatever"
        in verdicts.rule_text({"tool": "X", "match": {}}, action="allow", project="w")[-1]
    )

"""run FILE: nothing half done without saying how to go on, and no line that ends the others."""

import itertools

import pytest

from hivectl.cli.batch import parse
from hivectl.model.errors import HiveError


class Night:
    """Accepts prompts; each has ended as its text says by the time somebody looks."""

    def __init__(self, script, kit, path):
        self.script, self.kit, self.file = script, kit, path
        self.orders = {}
        self.refusals = []
        self.numbers = itertools.count(1)
        script.daemon.answers |= {"execute": self.execute, "queue.describe": self.describe}

    def write(self, *lines):
        self.file.write_text("\n".join(lines))
        return str(self.file)

    def execute(self, params):
        self.script.find_project(params)
        if self.refusals and (refused := self.refusals.pop(0)) is not None:
            raise refused
        for after in params.get("after", []):
            if "fails" in self.orders[after]:
                raise HiveError("INVALID_STATE", f"{after} is failed: nothing can follow it.")
        order = f"o_{next(self.numbers)}"
        self.orders[order] = params["prompt"]
        return {"execution": order.replace("o", "x"), "work_order": order, "project": "p_1"}

    def describe(self, params):
        prompt = self.orders[params["work_order"]]
        if "deleted" in prompt:
            raise HiveError("WORK_ORDER_NOT_FOUND", "There is no such work order.")
        ended = {"state": "failed", "cause": "api_error"} if "fails" in prompt else {"state": "completed", "cause": "ok"}  # fmt: skip
        return {
            "order": {"work_order": params["work_order"], "state": ended["state"]},
            "attempts": [self.kit.execution(prompt=prompt, **ended)],
        }


@pytest.fixture
def night(script, kit, tmp_path):
    return Night(script, kit, tmp_path / "tonight.txt")


def test_lines_are_prompts_and_may_name_their_project():
    assert [(p.text, p.project) for p in parse("# no\n\n one \n@api two  \n")] == [
        ("one", None),
        ("two", "api"),
    ]


def test_a_project_that_does_not_exist_is_found_before_anything_is_queued(hive, night):
    ran = hive("run", "-p", "web", night.write("one", "@nowhere two"))
    assert ran.code == 5
    assert "'nowhere'" in ran.err
    assert "Nothing was queued." in ran.err
    assert night.orders == {}


def test_when_it_breaks_off_it_says_how_to_queue_the_rest(hive, night):
    night.refusals = [None, None, HiveError("QUEUE_FULL", "2 work orders wait.")]
    ran = hive("run", "-p", "web", "--idempotency-key", "tonight", night.write("a", "b", "c"))
    assert ran.code != 0
    assert "2 of 3 are queued and go on" in ran.err
    assert "--idempotency-key tonight" in ran.err


def test_a_line_that_has_failed_while_it_was_queued_ends_and_the_others_go_on(hive, night):
    file = night.write("a fails", "b", "a2", "b2", "a3", "b3")
    ran = hive("run", "-p", "web", "--parallel", "2", "--stop-on-failure", file)
    assert sorted(night.orders.values()) == ["a fails", "b", "b2", "b3"]
    assert "2 not queued" in ran.err
    assert "1 failed" in ran.err
    assert "3 completed" in ran.err
    assert ran.code == 1


def test_what_was_deleted_meanwhile_is_told_and_waited_for_no_longer(hive, night):
    ran = hive("run", "-p", "web", night.write("one", "deleted two"))
    assert "o_2  is gone" in ran.err
    assert "1 completed" in ran.err
    assert ran.code == 5


def test_too_many_looks_at_once_are_looked_at_again(hive, night):
    refused = iter([HiveError("RATE_LIMITED", retry_after_ms=1)])
    looks = night.describe

    def describe(params):
        for error in refused:
            raise error
        return looks(params)

    night.script.daemon.answers["queue.describe"] = describe
    assert hive("run", "-p", "web", night.write("one", "two")).code == 0

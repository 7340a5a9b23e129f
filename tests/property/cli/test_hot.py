"""Whatever stands on the line: where the quick way takes it, it asks and prints what the full CLI does."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hivectl.cli import grammar, hot
from hivectl.model.errors import TABLE, HiveError
from hivectl.protocol import params
from hivectl.protocol.methods import METHODS

_WORDS = st.one_of(
    st.sampled_from(
        ["web", "p_1", "x_1", "o_1", "wep", "-", "--", "", " ", "-x", "--json", "hi there", "a\nb", "日本 é", "\x1b[31m", "w\udc80", "json"]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6),
)  # fmt: skip
_OUTPUTS = st.sampled_from([*grammar.FORMATS, "xml"])
_CODES = st.sampled_from(sorted(code for code, kind in TABLE.items() if not kind.retryable))
ASKED = ("execution.list", "health", "kill", "execute")
_STATES = st.sampled_from(["pending", "running", "waiting", "completed", "cancelled", "failed"])


@st.composite
def lines(draw):
    """A hot command with any of its options, each perhaps twice or without its value, and any words."""
    name = draw(st.sampled_from(sorted(grammar.HOT)))
    known = {**grammar.EVERYWHERE, **grammar.HOT[name]}
    pieces = [[word] for word in draw(st.lists(_WORDS, max_size=2))]
    if name == "exec" and draw(st.integers(0, 4)):
        pieces.append(["--detach"])
    for key in draw(st.lists(st.sampled_from(sorted(known)), max_size=3)):
        option = known[key]
        piece = [draw(st.sampled_from(option.spellings))]
        if option.metavar and draw(st.integers(0, 9)):
            piece.append(draw(_OUTPUTS if key == "output" else _WORDS))
        pieces.append(piece)
    order = draw(st.permutations(pieces))
    return [name, *(word for piece in order for word in piece)]


@st.composite
def answers(draw, kit):
    """What the daemon says: things of any state and text, or an error."""
    text = st.text(max_size=12)
    items = [
        kit.execution(f"x_{n}", state=draw(_STATES), prompt=draw(text), cause=draw(st.sampled_from([None, "killed", "oom"])))
        for n in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    said = {
        "execution.list": {"items": items, "next_cursor": None},
        "health": kit.HEALTH | {"status": draw(st.sampled_from(["ok", "degraded", "failing"])), "problems": [draw(text)]},
        "kill": {"executions": items, "survivors": draw(st.integers(0, 1))},
    }  # fmt: skip
    failing = draw(st.sampled_from(["", "", *ASKED]))
    error = HiveError(draw(_CODES), draw(st.one_of(st.just(""), text))) if failing else None
    return said, failing, error


def asked(daemon):
    """The requests, in order, as the daemon reads them, without the key that is made anew each time."""
    return [
        (
            name,
            getattr(params, METHODS[name].params)(**sent).model_dump(exclude={"idempotency_key"}),
        )
        for name, sent in daemon.requests
        if name in ASKED
    ]


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_quick_way_and_the_full_cli_are_one(data, hive, script, kit, monkeypatch):
    line = data.draw(lines())
    assume(hot._parse(line[0], line[1:]) is not None)
    said, failing, error = data.draw(answers(kit))

    def refuse(_params):
        raise error

    execute = script.execute
    script.on_execute = lambda: None
    script.daemon.answers |= {name: (lambda _params, name=name: said[name]) for name in said}
    script.daemon.answers["execute"] = execute
    if error is not None:
        script.daemon.answers[failing] = refuse
    method = {"ps": "execution.list", "exec": "execute"}.get(line[0], line[0])
    ways = []
    for is_quick in (True, False):
        script.daemon.requests.clear()
        with monkeypatch.context() as patch:
            if not is_quick:
                patch.setattr(hot, "run", lambda _arguments: None)
            ran = hive(*line)
        # Only the full CLI looks at the project's trust before it executes, and says so.
        heard = ran.err if failing == method or line[0] != "exec" else ""
        # An unknown project is found out by `execute` in one way, before it in the other; and what the
        # quick way is told of an unknown project, the full CLI asks again to tell it better.
        is_unknown = error is not None and error.code == "PROJECT_NOT_FOUND"
        is_same = ran.code == 0 or not (line[0] == "exec" or is_unknown)
        sent = asked(script.daemon) if is_same else None
        ways.append((ran.code, ran.out, heard, sent))
    assert ways[0] == ways[1]

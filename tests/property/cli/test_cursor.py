"""At least once on the wire is exactly once for who follows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hivectl.client.cursor import Cursor
from hivectl.client.subscription import backoff_s


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=10))
def test_repeats_are_dropped_and_nothing_is_lost(connections):
    """A dense stream; each connection sends so many events and the next begins so many before the cursor."""
    cursor = Cursor(["project:p_1"], "start")
    shown = []
    begin = 0
    for count, back in connections:
        sent = range(begin + 1, begin + count + 1)
        shown += [
            seq for seq in sent if cursor.admit({"stream": "project:p_1", "epoch": "e", "seq": seq})
        ]
        seen = cursor.since()["seq"] if cursor.positions else 0
        assert seen == len(shown)
        begin = max(seen - back, 0)
    assert shown == list(range(1, len(shown) + 1))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]), st.sampled_from(["e1", "e2"]), st.integers(1, 30)
        )
    )
)
def test_within_an_epoch_what_is_shown_only_grows(events):
    cursor = Cursor(["*"], "now")
    last = {}
    for stream, epoch, seq in events:
        if cursor.admit({"stream": stream, "epoch": epoch, "seq": seq}):
            known = last.get(stream)
            assert known is None or known[0] != epoch or known[1] < seq
            last[stream] = (epoch, seq)
    assert cursor.positions == last


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["project:a", "project:b", "system"]), st.integers(0, 99), min_size=1
    )
)
def test_a_view_resumes_with_a_map_of_positions(places):
    cursor = Cursor(["*"], "now")
    cursor.advance({name: {"epoch": "e", "seq": seq} for name, seq in places.items()})
    since = cursor.since()
    assert {name: place["seq"] for name, place in since["positions"].items()} == places


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_has_full_jitter_within_its_bounds(attempt, share):
    most = backoff_s(attempt, 1.0)
    assert 0.5 <= most <= 30.0
    assert 0 <= backoff_s(attempt, share) <= most

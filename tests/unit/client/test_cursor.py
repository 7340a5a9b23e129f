from hivectl.client.cursor import Cursor


def test_one_stream_resumes_with_its_cursor():
    cursor = Cursor(["project:p_1"], {"last": 5})
    assert cursor.since() == {"last": 5}
    cursor.admit({"stream": "project:p_1", "epoch": "e", "seq": 7})
    assert cursor.since() == {"epoch": "e", "seq": 7}


def test_a_bookmark_moves_a_filtered_follower_forward_only():
    cursor = Cursor(["project:p_1"], "now")
    cursor.advance({"project:p_1": {"epoch": "e", "seq": 9}})
    cursor.advance({"project:p_1": {"epoch": "e", "seq": 4}})
    assert cursor.since() == {"epoch": "e", "seq": 9}


def test_ephemeral_events_always_pass():
    cursor = Cursor(["*"], "now")
    assert cursor.admit({"stream": "project:p_1", "type": "partial"})
    assert cursor.positions == {}


def test_another_epoch_is_noticed_and_replaces_the_old_one():
    cursor = Cursor(["*"], "now")
    cursor.admit({"stream": "s", "epoch": "e1", "seq": 9})
    event = {"stream": "s", "epoch": "e2", "seq": 1}
    assert cursor.is_new_epoch(event)
    assert cursor.admit(event)
    assert not cursor.is_new_epoch({**event, "seq": 2})


def test_forgetting_starts_at_the_oldest():
    cursor = Cursor(["project:p_1"], "now")
    cursor.admit({"stream": "project:p_1", "epoch": "e", "seq": 7})
    cursor.forget()
    assert cursor.since() == "start"

"""A directory that is listened to, with the real file system."""

import os
import shutil

import pytest
from watchfiles import Change
from watchfiles._rust_notify import WatchfilesRustInternalError

from hivectl.engine import watched as rooms
from hivectl.engine.watched import Watched
from tests.harness.waiting import eventually


def listening(root, most=100):
    watched = Watched(root, most=most)
    found, level = [], [""]
    while level:
        taken = watched.take(level)
        found += taken
        level, _ = watched.scan(taken)
    watched.listen(found)
    return watched


def heard(watched, *wanted):
    """What was told, once all of `wanted` is in it."""
    told = {}

    def has_all():
        for path, changes in watched.hear().items():
            told.setdefault(path, set()).update(changes)
        return set(wanted) <= set(told)

    eventually(has_all, within_s=5, what=f"changes of {wanted}")
    return told


def test_new_changed_and_removed_files_are_told_apart(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/old.py").write_text("1")
    (tmp_path / "gone").write_text("1")
    watched = listening(tmp_path)
    (tmp_path / "src/new.py").write_text("1")
    (tmp_path / "src/old.py").write_text("2")
    (tmp_path / "gone").unlink()
    (tmp_path / "fleeting").write_text("1")
    (tmp_path / "fleeting").unlink()
    told = heard(watched, "src/new.py", "src/old.py", "gone", "fleeting")
    assert watched.settle(told) == (
        {"src/new.py": "added", "src/old.py": "modified", "gone": "deleted"},
        [],
    )
    watched.close()


def test_links_are_not_followed_out_of_the_directory(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    watched = listening(inside)
    assert watched.directories == {""}
    (outside / "secret").write_text("1")
    (inside / "mine").write_text("1")
    assert set(heard(watched, "mine")) == {"mine"}
    watched.close()


def test_dependencies_vcs_and_other_repositories_are_left_out(tmp_path):
    for name in (".git", ".jj", "node_modules", ".venv", "src/__pycache__", "other/.git"):
        (tmp_path / name).mkdir(parents=True)
    watched = listening(tmp_path)
    assert watched.directories == {"", "src"}
    (tmp_path / "node_modules/x.js").write_text("1")
    (tmp_path / ".git/HEAD").write_text("1")
    (tmp_path / "src/.x.py.swp").write_text("1")
    (tmp_path / "src/x.py").write_text("1")
    assert set(heard(watched, "src/x.py")) == {"src/x.py"}
    watched.close()


def test_more_directories_than_wanted_are_cut_and_it_is_known(tmp_path):
    for number in range(9):
        (tmp_path / f"d{number}").mkdir()
    watched = listening(tmp_path, most=5)
    assert len(watched.directories) == 5
    assert watched.is_cut
    watched.close()


def test_a_directory_that_is_replaced_by_another_is_listened_to_anew(tmp_path):
    (tmp_path / "build/deep").mkdir(parents=True)
    watched = listening(tmp_path)
    shutil.rmtree(tmp_path / "build")
    heard(watched, "build")
    (tmp_path / "build").mkdir()
    told = {"build": {Change.deleted, Change.added}}
    assert watched.settle(told) == ({}, ["build"])
    assert watched.directories == {""}
    watched.close()


def test_listeners_that_came_one_by_one_are_put_together_without_losing_a_change(tmp_path):
    watched = listening(tmp_path)
    for number in range(rooms.MOST_LISTENERS + 1):
        name = f"d{number}"
        (tmp_path / name).mkdir()
        watched.listen(watched.take([name]))
    (tmp_path / "d3/x").write_text("1")
    heard(watched, "d3/x")
    assert len(watched._listeners) == 1
    (tmp_path / "d0/y").write_text("1")
    heard(watched, "d0/y")
    watched.close()


def test_names_that_are_no_utf8_end_no_watching(tmp_path):
    watched = listening(tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("1")
    (tmp_path / "lost").write_text("1")
    eventually(lambda: watched.hear() == {} and watched._mended, within_s=5, what="it is mended")
    (tmp_path / "x").write_text("1")
    assert watched.settle(heard(watched, "x")) == ({"x": "added"}, [])
    watched.close()


def test_a_listener_that_fails_again_and_again_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "MOST_MENDED", 0)
    watched = listening(tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("1")
    with pytest.raises(WatchfilesRustInternalError):
        eventually(watched.hear, within_s=5, what="a failure")
    watched.close()


def test_closing_is_for_good_and_may_be_done_twice(tmp_path):
    watched = listening(tmp_path)
    watched.close()
    watched.close()
    watched.listen([""])
    (tmp_path / "x").write_text("1")
    assert watched.hear() == {}
    assert watched._listeners == []

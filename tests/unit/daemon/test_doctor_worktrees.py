"""What doctor says of worktrees while no daemon runs."""

import sqlite3

import pytest

from hivectl import config
from hivectl.daemon import doctor_worktrees
from hivectl.store.database import load_migrations


class Offline:
    def __init__(self, path):
        self.path = path
        self.settings = config.survey(env={"HIVECTL_HOME": str(path), "HOME": str(path)})
        self.root = config.worktree_root(self.settings)
        database = self.settings.places.database
        database.parent.mkdir(parents=True)
        self.db = sqlite3.connect(database, isolation_level=None)
        for _, script in load_migrations():
            self.db.executescript(script)
        self.db.execute(
            "INSERT INTO projects(id, name, path, dev, ino, defaults, env, created_us, activity_us)"
            " VALUES ('p_1', 'web', '/srv/web', 1, 1, '{}', '{}', 1, 1)"
        )
        self.root.mkdir(mode=0o700)

    def add(self, id_, state, *, has_directory=True, base="c0ffee", problem=""):
        place = self.root / "p_1" / id_
        if has_directory:
            place.mkdir(parents=True)
            (place / ".git").write_text("gitdir: /srv/web/.git/worktrees/x\n")
        self.db.execute(
            "INSERT INTO worktrees(id, project, order_id, execution, path, branch, base, state, problem, actor, created_us,"
            " changed_us) VALUES (?, 'p_1', 'o_1', ?, ?, 'hivectl/x', ?, ?, ?, 'user:t', 1, 1)",
            (id_, f"x_{id_}", str(place), base, state, problem),
        )

    def check(self, *, is_running=False):
        return list(doctor_worktrees.check(self.settings, is_running=is_running))


@pytest.fixture
def offline(tmp_path):
    made = Offline(tmp_path)
    yield made
    made.db.close()


def test_nothing_wrong_is_one_line(offline):
    offline.add("wt_1", "ready")
    assert [(row[0], row[1]) for row in offline.check()] == [("worktrees", "ok")]


def test_no_database_is_nothing_wrong(tmp_path):
    settings = config.survey(env={"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path)})
    assert [row[1] for row in doctor_worktrees.check(settings, is_running=False)] == ["ok"]


@pytest.mark.parametrize(
    ("state", "has_directory", "told"),
    [
        ("broken", True, "is broken"),
        ("ready", False, "is gone"),
        ("accepting", True, "cut short"),
        ("discarding", True, "cut short"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(offline, state, has_directory, told):
    offline.add("wt_1", state, has_directory=has_directory)
    ((_, status, what, why, next_),) = offline.check()
    assert status == "warn"
    assert told in what
    assert "x_wt_1" in what
    assert why
    assert next_


def test_a_running_daemon_may_be_in_the_middle_of_it(offline):
    offline.add("wt_1", "accepting")
    assert [row[1] for row in offline.check(is_running=True)] == ["ok"]


def test_a_directory_without_a_row_is_left_over(offline):
    (offline.root / "p_9" / "wt_9").mkdir(parents=True)
    ((name, _, what, _, next_),) = offline.check()
    assert name == "worktree_left"
    assert "wt_9" in what
    assert "rm -r" in next_


def test_a_root_that_is_open_to_others_is_told(offline):
    offline.root.chmod(0o755)
    assert [row[0] for row in offline.check()] == ["worktree_root"]


def test_many_findings_are_counted(offline):
    for number in range(25):
        offline.add(f"wt_{number}", "broken")
    found = offline.check()
    assert len(found) == doctor_worktrees.NAMED_MAX + 1
    assert "5 more" in found[-1][2]

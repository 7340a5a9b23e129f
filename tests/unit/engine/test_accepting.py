"""Worktrees over a real repository and database: made, looked at, accepted, discarded, mended."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from hivectl import config
from hivectl.engine import worktree_diff
from hivectl.engine.accepting import Accepting
from hivectl.engine.worktrees import Worktrees, branch_of, place_of
from hivectl.kit import failpoint
from hivectl.kit.clock import FakeClock
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.errors import HiveError
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import Cause, ExecutionState, Outcome
from hivectl.model.worktree import AcceptStep, WorktreeState
from hivectl.store import projects, queue, work, workers, worktrees
from hivectl.store.database import Database
from tests.harness.repo import Repo


class Bench:
    """A repository that is a project, and worktrees of ended work orders."""

    def __init__(self, path, db, settings, repo, below=""):
        self.path, self.db, self.settings, self.repo = path, db, settings, repo
        place = repo.path / below
        found = place.stat()
        self.project = Project(
            id=make_id("p"), name="web", path=str(place), dev=found.st_dev, ino=found.st_ino, trust_hash=None, trust_broken=False,
            defaults={}, env={}, version=1, session=None, state=ProjectState.IDLE, error=None, executions=0, input_tokens=0,
            output_tokens=0, cost_usd=0.0, created_us=1, activity_us=1,
        )  # fmt: skip
        self.trees = Worktrees(db, lambda: settings)
        self.accepting = Accepting(self.trees)

    async def queue(self):
        id_, survey = make_id("wt"), await self.trees.survey(self.project)
        wanted = worktrees.Wanted(
            id=id_, path=place_of(self.settings, self.project.id, id_), branch=branch_of(id_), prefix=survey.prefix,
            limit=self.settings.number("worktree.max_per_project"),
        )  # fmt: skip
        wish = work.Wish(
            order=make_id("o"), execution=make_id("x"), project=self.project, prompt="hi", prompt_uuid=make_uuid(),
            message={"kind": "prompt"}, session="new", fork=False, options={}, priority="normal", actor="user:t", request="r",
            key=None, hash="", refuse_if_busy=False, max_orders=99, key_age_us=1, worktree=wanted,
        )  # fmt: skip
        await self.db.write(lambda tx: work.enqueue(tx, wish))
        return wish

    async def made(self, *, files=None):
        """A worktree whose work order has ended, with some files written."""
        wish = await self.queue()
        claimed = await self.db.write(
            lambda tx: queue.claim(tx, queue.Caps(max_live=9), process=make_id("pr"))
        )
        assert claimed.execution.id == wish.execution
        tree = await self.trees.provide(wish.worktree.id, self.project, self.db.write)
        for name, text in (files or {}).items():
            place = self.path_of(tree, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        await self.end(wish.execution)
        return tree

    async def end(self, execution):
        outcome = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK)
        await self.db.write(lambda tx: work.end(tx, execution, outcome))

    def path_of(self, tree, name=""):
        return self.path.__class__(tree.path) / name

    async def accept(self, tree, mode="merge", message="changes"):
        return await self.accepting.accept(
            self.project, tree.id, mode=mode, message=message, actor="user:t"
        )

    async def discard(self, tree, *, force=False):
        return await self.accepting.discard(self.project, tree.id, force=force, actor="user:t")

    async def diff(self, tree, most=100_000):
        return await worktree_diff.look(self.trees, await self.row(tree), self.project, most=most)

    async def row(self, tree):
        return await self.db.write(lambda tx: worktrees.find(tx, tree.id))

    async def set(self, tree, to, **changes):
        row = await self.row(tree)
        return await self.db.write(lambda tx: worktrees.move(tx, row, to, **changes))


@pytest.fixture
def bench(tmp_path):
    @asynccontextmanager
    async def opened(*, below="", repo=None, **flags):
        repo = repo or Repo(tmp_path / "repo")
        (repo.path / below).mkdir(exist_ok=True)
        env = {
            "HOME": str(tmp_path),
            "HIVECTL_HOME": str(tmp_path / "h"),
            "PATH": os.environ["PATH"],
        }
        settings = config.load({k.replace("__", "."): v for k, v in flags.items()}, env=env)
        db = await Database.open(tmp_path / "hive.db", FakeClock())
        await db.write(lambda tx: workers.sync_slots(tx, default=9))
        made = Bench(tmp_path, db, settings, repo, below)
        await db.write(
            lambda tx: projects.insert(tx, made.project, limit=9, actor="user:t", request="r")
        )
        try:
            yield made
        finally:
            failpoint.configure("")
            await db.close()

    return opened


async def refused(doing, code):
    with pytest.raises(HiveError) as caught:
        await doing
    assert caught.value.code == code, caught.value
    return caught.value


# --- making --------------------------------------------------------------------------------------------


async def test_a_worktree_is_private_and_has_a_branch_of_its_own_at_head(bench):
    async with bench() as b:
        tree = await b.made()
        assert tree.state is WorktreeState.READY
        assert tree.base == b.repo.head
        assert b.path_of(tree, "a.txt").read_text() == "one\n"
        assert tree.branch in b.repo.branches
        assert b.path_of(tree).parent.stat().st_mode & 0o777 == 0o700
        assert b.path_of(tree).parent.parent.stat().st_mode & 0o777 == 0o700
        assert b.path_of(tree, "a.txt").stat().st_mode & 0o777 == 0o644


async def test_a_branch_that_is_taken_is_left_alone(bench):
    async with bench() as b:
        wish = await b.queue()
        b.repo.git("branch", wish.worktree.branch)
        tree = await b.trees.provide(wish.worktree.id, b.project, b.db.write)
        assert tree.branch == f"hivectl/{tree.id}"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "not_a_repository"),
        (lambda path: Repo(path, is_empty=True), "no_commit"),
        (lambda path: Repo(path).git("config", "core.bare", "true"), "bare"),
    ],
)
async def test_where_no_worktree_can_be_made_the_reason_is_told(bench, tmp_path, make, reason):
    async with bench() as b:
        make(tmp_path / "other")
        project = b.project.__class__(**{**_fields(b.project), "path": str(tmp_path / "other")})
        error = await refused(b.trees.survey(project), "WORKTREE_UNAVAILABLE")
        assert error.details["reason"] == reason
        assert error.hint


def _fields(project):
    return {name: getattr(project, name) for name in project.__struct_fields__}


async def test_without_git_the_reason_is_told(bench, tmp_path):
    async with bench() as b:
        b.trees.git._env["PATH"] = str(tmp_path)
        error = await refused(b.trees.survey(b.project), "WORKTREE_UNAVAILABLE")
        assert error.details["reason"] == "no_git"


async def test_a_directory_that_git_does_not_know_of_cannot_have_a_worktree(bench):
    async with bench(below="sub") as b:
        error = await refused(b.trees.survey(b.project), "WORKTREE_UNAVAILABLE")
        assert error.details["reason"] == "not_in_head"


async def test_a_project_below_its_repository_runs_below_the_worktree(bench, tmp_path):
    repo = Repo(tmp_path / "repo")
    repo.commit({"sub/b.txt": "b\n"})
    async with bench(below="sub", repo=repo) as b:
        tree = await b.made()
        assert tree.cwd == f"{tree.path}/sub"
        b.path_of(tree, "sub/b.txt").write_text("c\n")
        b.path_of(tree, "a.txt").write_text("two\n")
        assert {f["path"] for f in (await b.diff(tree)).files} == {"a.txt", "sub/b.txt"}
        await b.accept(tree)
        assert (repo.path / "sub/b.txt").read_text() == "c\n"
        assert (repo.path / "a.txt").read_text() == "two\n"


async def test_worktree_max_per_project_is_reached_and_told(bench):
    async with bench(worktree__max_per_project=2) as b:
        first = await b.made()
        await b.made()
        error = await refused(b.queue(), "RESOURCE_LIMIT")
        assert error.details["limit"] == "worktree.max_per_project"
        await b.discard(first)
        await b.queue()


async def test_a_root_inside_the_repository_is_refused(bench, tmp_path):
    async with bench(worktree__root=str(tmp_path / "repo" / "trees")) as b:
        error = await refused(b.trees.survey(b.project), "WORKTREE_UNAVAILABLE")
        assert error.details["reason"] == "root_inside"


async def test_a_half_made_worktree_is_made_anew_from_the_same_commit(bench):
    async with bench() as b:
        wish = await b.queue()
        failpoint.configure("worktree_after_add:error=EIO")
        b.trees.give_up = _nothing
        await refused(
            b.trees.provide(wish.worktree.id, b.project, b.db.write), "WORKTREE_UNAVAILABLE"
        )
        del b.trees.give_up
        failpoint.configure("")
        half = await b.db.write(lambda tx: worktrees.find(tx, wish.worktree.id))
        assert half.state is WorktreeState.CREATING
        assert b.path_of(half, "a.txt").exists()
        b.repo.commit({"a.txt": "later\n"})
        tree = await b.trees.provide(wish.worktree.id, b.project, b.db.write)
        assert tree.base == half.base
        assert b.path_of(tree, "a.txt").read_text() == "one\n"
        assert b.repo.worktrees == 1


async def _nothing(*_):
    return None


async def test_what_cannot_be_made_leaves_nothing_and_says_why(bench, tmp_path):
    async with bench() as b:
        wish = await b.queue()
        (tmp_path / "h").mkdir()
        (tmp_path / "h" / "worktrees").write_text("in the way")
        await refused(
            b.trees.provide(wish.worktree.id, b.project, b.db.write), "WORKTREE_UNAVAILABLE"
        )
        row = await b.db.write(lambda tx: worktrees.find(tx, wish.worktree.id))
        assert row.state is WorktreeState.DISCARDED
        assert row.problem
        assert b.repo.branches == ["main"]
        assert b.repo.worktrees == 0


async def test_a_work_order_that_is_cancelled_first_wants_no_worktree(bench):
    async with bench() as b:
        wish = await b.queue()
        await b.db.write(
            lambda tx: work.want_stop(tx, wish.execution, mode="kill", reason="user", by="user:t")
        )
        row = await b.db.write(lambda tx: worktrees.find(tx, wish.worktree.id))
        assert row.state is WorktreeState.DISCARDED
        assert row.base is None


# --- diff ----------------------------------------------------------------------------------------------


async def test_a_diff_shows_commits_uncommitted_and_untracked_files_and_touches_nothing(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n", "new dir/ü \t'\"\n.txt": "x\n"})
        found = await b.diff(tree)
        assert {(f["path"], f["status"], f["added"], f["deleted"]) for f in found.files} == {
            ("a.txt", "M", 1, 1),
            ("new dir/ü \t'\"\n.txt", "A", 1, 0),
        }
        assert (found.total, found.added, found.deleted, found.uncommitted) == (2, 2, 1, 2)
        assert "-one" in found.patch
        assert "+two" in found.patch
        changes = {path: status for status, path in await b.trees.git.changes(tree.path)}
        assert changes["a.txt"] == " M"


async def test_a_diff_is_cut_at_its_limit_and_says_so(bench):
    async with bench() as b:
        tree = await b.made(files={"big.txt": "line\n" * 10_000})
        found = await b.diff(tree, most=1000)
        assert found.is_cut
        assert len(found.patch) == 1000
        assert found.added == 10_000


async def test_renames_binary_files_links_and_ignored_ones_are_told(bench, tmp_path):
    repo = Repo(tmp_path / "repo")
    repo.commit({".gitignore": "*.log\n", "old.txt": "text\n" * 50})
    async with bench(repo=repo) as b:
        tree = await b.made(files={"noise.log": "x"})
        b.path_of(tree, "old.txt").rename(b.path_of(tree, "renamed.txt"))
        b.path_of(tree, "blob").write_bytes(b"\0\1\2" * 100)
        b.path_of(tree, "link").symlink_to("/etc/passwd")
        found = await b.diff(tree)
        by_path = {f["path"]: f for f in found.files}
        assert by_path["renamed.txt"]["from"] == "old.txt"
        assert by_path["renamed.txt"]["status"] == "R"
        assert by_path["blob"]["added"] is None
        assert "root:" not in found.patch
        assert found.ignored == ["noise.log"]


async def test_names_that_are_no_text_are_shown_and_taken_over(bench):
    async with bench() as b:
        tree = await b.made()
        b.path_of(tree, os.fsdecode(b"\xff-name")).write_text("x\n")
        found = await b.diff(tree)
        assert found.files[0]["path"] == "\ufffd-name"
        await b.accept(tree)
        assert b.repo.status == []
        assert (b.repo.path / os.fsdecode(b"\xff-name")).exists()


# --- accept --------------------------------------------------------------------------------------------


async def test_an_accept_commits_moves_the_branch_and_leaves_nothing_behind(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n", "deep/b.txt": "b\n"})
        taken = await b.accept(tree, message="subject\n\nbody")
        assert taken.worktree.state is WorktreeState.ACCEPTED
        assert taken.commit == b.repo.head
        assert (b.repo.path / "deep/b.txt").read_text() == "b\n"
        assert (b.repo.path / "deep/b.txt").stat().st_mode & 0o777 == 0o644
        assert b.repo.status == []
        assert b.repo.branches == ["main"]
        assert b.repo.worktrees == 0
        assert not b.path_of(tree).exists()
        assert b.repo.git("log", "-1", "--format=%an|%B") == "Ada|subject\n\nbody"
        again = await b.accept(tree)
        assert again.commit == taken.commit
        assert again.warnings


async def test_both_sides_that_moved_are_merged(bench):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        b.repo.commit({"c.txt": "c\n"})
        await b.accept(tree)
        assert len(b.repo.git("log", "-1", "--format=%P").split()) == 2
        assert (b.repo.path / "b.txt").exists()
        assert (b.repo.path / "c.txt").exists()


async def test_ff_refuses_what_cannot_be_fast_forwarded_and_squash_makes_one_commit(bench):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        b.repo.commit({"c.txt": "c\n"})
        error = await refused(b.accept(tree, "ff"), "MERGE_REFUSED")
        assert error.details["reason"] == "not_fast_forward"
        assert (await b.row(tree)).state is WorktreeState.READY
        await b.accept(tree, "squash")
        assert len(b.repo.git("log", "-1", "--format=%P").split()) == 1
        assert (b.repo.path / "b.txt").exists()
        assert b.repo.branches == ["main"]


async def test_a_conflict_names_the_files_and_leaves_everything_as_it_was(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "theirs\n", "b.txt": "b\n"})
        b.repo.commit({"a.txt": "ours\n"})
        before = b.repo.state()
        error = await refused(b.accept(tree), "MERGE_CONFLICT")
        assert error.details["files"] == ["a.txt"]
        assert b.repo.state() == before
        row = await b.row(tree)
        assert row.state is WorktreeState.READY
        assert row.problem == error.message
        assert b.path_of(tree, "a.txt").read_text() == "theirs\n"
        assert b.path_of(tree, "b.txt").read_text() == "b\n"
        b.repo.commit({"a.txt": "one\n"})
        await b.accept(tree)  # nothing was lost: with the conflict gone it goes through
        assert (b.repo.path / "a.txt").read_text() == "theirs\n"


async def test_local_changes_that_would_be_overwritten_are_not(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n", "n.txt": "n\n"})
        b.repo.write({"a.txt": "mine\n"})
        before = b.repo.state()
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["reason"] == "local_changes"
        assert error.details["files"] == ["a.txt"]
        assert b.repo.state() == before
        b.repo.git("checkout", "--quiet", "a.txt")
        b.repo.write({"n.txt": "untracked of mine\n"})
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["files"] == ["n.txt"]
        assert (b.repo.path / "n.txt").read_text() == "untracked of mine\n"


async def test_an_ignored_file_is_not_overwritten_either(bench, tmp_path):
    repo = Repo(tmp_path / "repo")
    repo.commit({".gitignore": ".env\n"})
    async with bench(repo=repo) as b:
        tree = await b.made(files={".gitignore": "", ".env": "theirs\n"})
        repo.write({".env": "my secrets\n"})
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["reason"] == "local_changes"
        assert (repo.path / ".env").read_text() == "my secrets\n"


async def test_local_changes_that_are_not_in_the_way_stay(bench):
    async with bench() as b:
        b.repo.commit({"mine.txt": "1\n"})
        tree = await b.made(files={"a.txt": "two\n"})
        b.repo.write({"mine.txt": "2\n", "untracked.txt": "u\n"})
        b.repo.git("add", "mine.txt")
        await b.accept(tree)
        assert b.repo.status == ["M  mine.txt", "?? untracked.txt"]
        assert (b.repo.path / "a.txt").read_text() == "two\n"


@pytest.mark.parametrize("state", ["merge", "rebase", "detached"])
async def test_a_project_in_the_middle_of_something_is_left_alone(bench, state):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        b.repo.git("checkout", "--quiet", "-b", "side")
        b.repo.commit({"a.txt": "side\n"})
        b.repo.git("checkout", "--quiet", "main")
        b.repo.commit({"a.txt": "main\n"})
        match state:
            case "merge":
                b.repo.git("merge", "side", check=False)
            case "rebase":
                b.repo.git("rebase", "side", check=False)
            case _:
                b.repo.git("checkout", "--quiet", "--detach")
        before = b.repo.state()
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["reason"] == ("detached" if state == "detached" else "in_progress")
        assert b.repo.state() == before
        assert (await b.row(tree)).state is WorktreeState.READY


async def test_without_a_name_to_commit_in_it_is_refused_before_anything_is_done(bench, tmp_path):
    async with bench(repo=Repo(tmp_path / "repo", has_identity=False)) as b:
        tree = await b.made(files={"b.txt": "b\n"})
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["reason"] == "no_identity"
        assert "user.name" in error.hint
        b.repo.git("config", "user.name", "Ada")
        b.repo.git("config", "user.email", "ada@example.org")
        await b.accept(tree)


async def test_a_repository_inside_the_worktree_is_never_lost(bench):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        Repo(b.path_of(tree, "nested"))
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["reason"] == "nested_repository"
        assert error.details["files"] == ["nested/"]
        await refused(b.discard(tree), "UNSAVED_WORK")


async def test_an_unfinished_merge_in_the_worktree_is_not_committed(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "theirs\n"})
        inside = Repo.__new__(Repo)
        inside.path = b.path_of(tree)
        inside.git("commit", "--quiet", "-am", "theirs")
        b.repo.commit({"a.txt": "ours\n"})
        inside.git("merge", "main", check=False)
        error = await refused(b.accept(tree), "MERGE_REFUSED")
        assert error.details["reason"] == "unmerged"


async def test_nothing_is_accepted_or_discarded_while_it_runs(bench):
    async with bench() as b:
        wish = await b.queue()
        await b.db.write(lambda tx: queue.claim(tx, queue.Caps(max_live=9), process="pr_1"))
        tree = await b.trees.provide(wish.worktree.id, b.project, b.db.write)
        for doing in (b.accept(tree), b.discard(tree), b.discard(tree, force=True)):
            error = await refused(doing, "INVALID_STATE")
            assert error.details["execution"] == wish.execution


async def test_what_a_run_wrote_into_the_repositorys_configuration_is_not_started(bench, tmp_path):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n", ".gitattributes": "*.txt filter=evil\n"})
        b.repo.git("config", "filter.evil.clean", f"touch {tmp_path}/pwned; cat")
        for doing in (b.diff(tree), b.accept(tree), b.discard(tree)):
            error = await refused(doing, "WORKTREE_UNAVAILABLE")
            assert error.details["reason"] == "config_changed"
            assert error.details["keys"] == ["filter.evil.clean"]
        assert not (tmp_path / "pwned").exists()
        await b.discard(tree, force=True)
        assert not (tmp_path / "pwned").exists()


async def test_no_hook_of_the_repository_runs(bench, tmp_path):
    async with bench() as b:
        for name in (
            "post-checkout",
            "pre-commit",
            "commit-msg",
            "post-commit",
            "post-merge",
            "reference-transaction",
        ):
            hook = b.repo.path / ".git/hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-{name}\n")
            hook.chmod(0o755)
        b.repo.git("config", "core.fsmonitor", f"touch {tmp_path}/hook-fsmonitor; false")
        tree = await b.made(files={"a.txt": "two\n"})
        await b.diff(tree)
        await b.accept(tree)
        assert list(tmp_path.glob("hook-*")) == []


async def test_two_accepts_at_once_both_arrive(bench):
    async with bench() as b:
        trees = [await b.made(files={f"{name}.txt": "x\n"}) for name in ("one", "two", "three")]
        async with asyncio.TaskGroup() as group:
            for tree in trees:
                group.create_task(b.accept(tree))
        assert {"one.txt", "two.txt", "three.txt"} <= {p.name for p in b.repo.path.iterdir()}
        assert b.repo.status == []


async def test_commits_beside_the_worktrees_branch_are_taken_over_or_kept(bench):
    async with bench() as b:
        tree = await b.made()
        inside = Repo.__new__(Repo)
        inside.path = b.path_of(tree)
        inside.commit({"left.txt": "on its branch\n"})
        inside.git("checkout", "--quiet", "--detach", "main")
        inside.commit({"b.txt": "on no branch\n"})
        error = await refused(b.discard(tree), "UNSAVED_WORK")
        assert error.details["commits"] == 2
        taken = await b.accept(tree)
        assert "other commits" in taken.warnings[0]
        assert (b.repo.path / "b.txt").exists()
        assert tree.branch in b.repo.branches


async def test_a_repository_that_was_moved_is_found_again(bench, tmp_path):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        b.repo.path = b.repo.path.rename(tmp_path / "moved")
        b.project = b.project.__class__(**{**_fields(b.project), "path": str(b.repo.path)})
        assert (await b.diff(tree)).total == 1
        await b.accept(tree)
        assert (b.repo.path / "b.txt").exists()


async def test_a_work_order_tried_again_gets_a_fresh_worktree_for_one_that_was_discarded(bench):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        assert await b.trees.provide(tree.id, b.project, b.db.write) == await b.row(tree)
        await b.discard(tree, force=True)
        b.repo.commit({"a.txt": "later\n"})
        again = await b.trees.provide(tree.id, b.project, b.db.write)
        assert again.base == b.repo.head
        assert b.path_of(again, "a.txt").read_text() == "later\n"
        await b.accept(again)
        error = await refused(
            b.trees.provide(tree.id, b.project, b.db.write), "WORKTREE_UNAVAILABLE"
        )
        assert error.details["reason"] == "accepted"


# --- discard -------------------------------------------------------------------------------------------


async def test_a_worktree_without_changes_is_discarded_with_its_branch(bench):
    async with bench() as b:
        tree = await b.made()
        gone = await b.discard(tree)
        assert gone.state is WorktreeState.DISCARDED
        assert b.repo.branches == ["main"]
        assert b.repo.worktrees == 0
        assert (await b.discard(tree)).state is WorktreeState.DISCARDED


async def test_uncommitted_changes_and_own_commits_are_not_lost_unless_forced(bench):
    async with bench() as b:
        tree = await b.made(files={"b.txt": "b\n"})
        error = await refused(b.discard(tree), "UNSAVED_WORK")
        assert error.details["files"] == ["b.txt"]
        inside = Repo.__new__(Repo)
        inside.path = b.path_of(tree)
        inside.git("add", "-A")
        inside.git("commit", "--quiet", "-m", "mine")
        error = await refused(b.discard(tree), "UNSAVED_WORK")
        assert (error.details["files"], error.details["commits"]) == ([], 1)
        b.repo.git("branch", "saved", tree.branch)
        await b.discard(tree)  # another branch has it
        other = await b.made(files={"c.txt": "c\n"})
        await b.discard(other, force=True)
        assert b.repo.branches == ["main", "saved"]


async def test_a_directory_without_the_right_to_write_is_removed_all_the_same(bench):
    async with bench() as b:
        tree = await b.made(files={"cache/deep/x.txt": "x\n"})
        b.path_of(tree, "cache/deep").chmod(0o500)
        await b.discard(tree, force=True)
        assert not b.path_of(tree).exists()


async def test_a_link_in_a_worktree_is_removed_and_not_what_it_points_to(bench, tmp_path):
    async with bench() as b:
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("x")
        tree = await b.made()
        b.path_of(tree, "link").symlink_to(tmp_path / "precious")
        await b.discard(tree, force=True)
        assert (tmp_path / "precious" / "file").read_text() == "x"


# --- after a crash -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "accept_committed",
        "accept_before_merge",
        "accept_merged",
        "worktree_before_remove",
        "worktree_removed",
    ],
)
async def test_a_step_that_fails_leaves_an_accept_that_can_be_asked_for_again(bench, name):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n"})
        failpoint.configure(f"{name}@1:error=EIO")
        with pytest.raises(OSError, match="failpoint"):
            await b.accept(tree)
        failpoint.configure("")
        await b.accept(tree)
        assert (await b.row(tree)).state is WorktreeState.ACCEPTED
        assert (b.repo.path / "a.txt").read_text() == "two\n"
        assert b.repo.branches == ["main"]
        assert b.repo.git("rev-list", "--count", "HEAD") == "2"


async def test_a_directory_that_vanished_is_broken_and_its_commits_are_told(bench):
    async with bench() as b:
        tree = await b.made()
        away = b.path_of(tree).rename(b.path / "away")
        await b.accepting.mend()
        row = await b.row(tree)
        assert row.state is WorktreeState.BROKEN
        assert "gone" in row.problem
        await refused(b.accept(tree), "INVALID_STATE")
        away.rename(b.path_of(tree))
        await b.accepting.mend()
        assert (await b.row(tree)).state is WorktreeState.READY


async def test_a_broken_worktree_that_is_gone_is_discarded(bench):
    async with bench() as b:
        tree = await b.made()
        b.path_of(tree).rename(b.path / "away")
        await b.discard(tree)
        assert b.repo.branches == ["main"]
        assert b.repo.worktrees == 0


async def test_an_accept_cut_short_before_the_merge_is_taken_back(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n"})
        await b.set(tree, WorktreeState.ACCEPTING, step=AcceptStep.COMMITTING)
        assert await b.accepting.mend() == 1
        row = await b.row(tree)
        assert row.state is WorktreeState.READY
        assert "accept again" in row.problem
        await b.accept(tree)


async def test_a_discard_cut_short_is_finished(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n"})
        await b.set(tree, WorktreeState.DISCARDING)
        assert await b.accepting.mend() == 1
        assert (await b.row(tree)).state is WorktreeState.DISCARDED
        assert not b.path_of(tree).exists()


async def test_what_came_into_the_worktree_after_the_merge_keeps_it(bench):
    async with bench() as b:
        tree = await b.made(files={"a.txt": "two\n"})
        failpoint.configure("accept_merged:error=EIO")
        b.accepting._mend_one = _nothing
        with pytest.raises(OSError, match="failpoint"):
            await b.accept(tree)
        del b.accepting._mend_one
        failpoint.configure("")
        b.path_of(tree, "late.txt").write_text("late\n")
        assert await b.accepting.mend() == 1
        row = await b.row(tree)
        assert row.state is WorktreeState.READY
        assert b.path_of(tree, "late.txt").exists()
        await b.accept(tree)
        assert (b.repo.path / "late.txt").read_text() == "late\n"

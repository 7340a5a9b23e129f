"""The queue against a model: any sequence of prompts, claims, ends, questions, pauses, limits and restarts.

Nothing is lost, nothing runs twice without a retry on record, no cap is exceeded, and in the end everything
that may run has run.
"""

import sqlite3

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from hivectl.kit.clock import FakeClock
from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.model.work import Cause, ExecutionState, OrderState, Outcome
from hivectl.store import attempts, lanes, moves, people, queue, work, workers
from hivectl.store.database import Tx, load_migrations
from tests.unit.store.test_queue import asked
from tests.unit.store.test_work import a_project, a_wish

SLOTS = 2
RULES = attempts.Rules(on_usage_limit="resume", max_resumptions=1)
ENDS = {
    "done": Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK),
    "failed": Outcome(state=ExecutionState.FAILED, cause=Cause.API_ERROR),
    "lost": Outcome(state=ExecutionState.LOST, cause=Cause.SHIM_LOST),
    "killed": Outcome(state=ExecutionState.CANCELLED, cause=Cause.KILLED),
    "limit": Outcome(state=ExecutionState.FAILED, cause=Cause.USAGE_LIMIT, resets_at=1_700_100_000),
}


class Queue(RuleBasedStateMachine):
    orders = Bundle("orders")

    @initialize()
    def open(self):
        self.clock = FakeClock()
        self.conn = sqlite3.connect(":memory:", isolation_level=None)
        self.conn.row_factory = sqlite3.Row
        for _, sql in load_migrations():
            self.conn.executescript(sql)
        self.projects = [self.write(lambda tx, n=name: a_project(tx, n)) for name in "abc"]
        self.write(lambda tx: workers.sync_slots(tx, default=SLOTS))
        self.accepted = {}
        self.starts = {}

    def teardown(self):
        if hasattr(self, "conn"):
            self.finish()
            self.conn.close()

    def write(self, change):
        self.clock.advance(0.001)
        self.conn.execute("SAVEPOINT op")
        try:
            return change(Tx(self.conn, self.clock.now_us()))
        except HiveError:
            self.conn.execute("ROLLBACK TO op")
            raise
        finally:
            self.conn.execute("RELEASE op")

    def live(self):
        return self.write(work.live)

    @rule(
        target=orders, project=st.integers(0, 2), priority=st.sampled_from(["high", "normal", "low"]), retries=st.integers(0, 2),
        account=st.sampled_from("xy"), idempotent=st.booleans(), delay_s=st.sampled_from([None, 30]),
    )  # fmt: skip
    def enqueue(self, project, priority, retries, account, idempotent, delay_s):
        at = None if delay_s is None else self.clock.now_us() + delay_s * 1_000_000
        return self.accept(
            project,
            priority=priority,
            retries=retries,
            account=account,
            is_idempotent=idempotent,
            not_before_us=at,
        )

    @rule(
        target=orders,
        project=st.integers(0, 2),
        needs=st.lists(orders, min_size=1, max_size=3),
        any_=st.booleans(),
    )
    def enqueue_behind(self, project, needs, any_):
        needs = tuple(ref for ref in needs if ref is not None)
        return self.accept(project, **{"after_any" if any_ else "after": needs})

    def accept(self, project, **fields):
        wish = a_wish(self.projects[project], **fields)
        try:
            self.write(lambda tx: work.enqueue(tx, wish))
        except HiveError as exc:
            if exc.code != "INVALID_STATE":  # it was to follow something that has failed
                raise
            return None
        self.accepted[wish.order] = wish
        return wish.order

    @rule()
    def give_out_a_slot(self):
        self.claim()

    def claim(self):
        def turn(tx):
            queue.release_due(tx)
            return queue.claim(tx, queue.Caps(max_live=10, per_user=0), process=make_id("pr"))

        claimed = self.write(turn)
        if claimed is not None and not claimed.is_resumed:
            order = claimed.execution.order_id
            self.starts.setdefault(order, []).append(claimed.execution.id)
            self.write(lambda tx: work.started(tx, claimed.execution.id, pid=1))
        return claimed

    @rule(which=st.integers(0, 9), how=st.sampled_from(sorted(ENDS)))
    def end(self, which, how):
        if found := self.live():
            self.write(
                lambda tx: work.end(tx, found[which % len(found)].id, ENDS[how], rules=RULES)
            )

    @rule(which=st.integers(0, 9))
    def ask(self, which):
        if found := self.live():
            self.write(lambda tx: self._ask(tx, found[which % len(found)]))

    @staticmethod
    def _ask(tx, execution):
        people.request(tx, asked(execution))
        work.wait_for_person(tx, execution.id)

    @rule(which=st.integers(0, 9))
    def answer(self, which):
        pending = self.conn.execute("SELECT id FROM approvals WHERE state = 'pending'").fetchall()
        if pending:
            self.write(lambda tx: self._answer(tx, pending[which % len(pending)]["id"]))

    @staticmethod
    def _answer(tx, id_):
        done = people.decide(
            tx, id_, version=None, decision="allow", answer={"allow": True}, message="", by="u"
        )
        work.go_on(tx, done.execution)

    @rule(order=orders)
    def cancel(self, order):
        self.allowed(lambda tx: queue.cancel(tx, order or "o_none", message="", actor="u"))

    @rule(order=orders)
    def retry(self, order):
        self.allowed(lambda tx: queue.retry(tx, order or "o_none", actor="u"))

    @rule(order=orders, to=st.sampled_from(["first", "last"]))
    def move(self, order, to):
        self.allowed(
            lambda tx: queue.relocate(
                tx, order or "o_none", to=to, before=None, priority=None, actor="u", request="r"
            )
        )

    def allowed(self, change):
        try:
            self.write(change)
        except HiveError as exc:
            if exc.code not in ("INVALID_STATE", "WORK_ORDER_NOT_FOUND", "EXECUTION_NOT_FOUND"):
                raise

    @rule(project=st.sampled_from([None, 0, 1]))
    def pause(self, project):
        ref = None if project is None else self.projects[project].id
        self.write(lambda tx: queue.pause(tx, ref, reason="", actor="u", request="r"))

    @rule(project=st.sampled_from([None, 0, 1]), now=st.booleans())
    def resume(self, project, now):
        ref = None if project is None else self.projects[project].id
        self.write(lambda tx: queue.resume(tx, ref, now=now, actor="u", request="r"))

    @rule(slots=st.integers(0, 3))
    def scale(self, slots):
        self.write(lambda tx: workers.scale(tx, slots, default=SLOTS, actor="u"))

    @rule(seconds=st.sampled_from([1, 60, 90_000]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def restart(self):
        def mend(tx):
            lanes.mend(tx)
            workers.mend(tx, default=SLOTS)

        self.write(mend)

    # --- what always holds --------------------------------------------------------------------------

    @invariant()
    def one_live_a_lane_each_with_its_slot(self):
        if not hasattr(self, "conn"):
            return
        live = self.live()
        assert len({execution.lane for execution in live}) == len(live)
        running = {
            execution.id for execution in live if execution.state is not ExecutionState.WAITING
        }
        carried = [
            row["execution"]
            for row in self.conn.execute(
                "SELECT execution FROM workers WHERE execution IS NOT NULL"
            )
        ]
        assert sorted(carried) == sorted(running)

    @invariant()
    def nothing_is_lost_and_states_agree(self):
        if not hasattr(self, "conn"):
            return
        for order in self.accepted:
            found = self.write(lambda tx, id_=order: moves.find_order(tx, id_))
            newest = self.write(lambda tx, id_=order: moves.find(tx, id_))
            expected = {
                OrderState.QUEUED: newest.state is ExecutionState.PENDING,
                OrderState.CLAIMED: newest.state in ("starting", "running", "waiting"),
            }
            assert expected.get(
                found.state, newest.state not in ("pending", "starting", "running", "waiting")
            ), (found, newest)
            assert newest.attempt == found.attempt

    @invariant()
    def nothing_runs_twice(self):
        for executions in getattr(self, "starts", {}).values():
            assert len(set(executions)) == len(executions)

    @invariant()
    def heads_are_true(self):
        if not hasattr(self, "conn"):
            return
        for lane in self.conn.execute("SELECT * FROM lanes").fetchall():
            head = self.conn.execute(
                "SELECT id FROM orders WHERE lane = ? AND state = 'queued' AND hold IS NULL ORDER BY rank, id LIMIT 1",
                (lane["lane"],),
            ).fetchone()
            assert lane["head"] == (head["id"] if head else None)

    def finish(self):
        """Let everything go: whatever can run, runs to its end."""
        self.resume(None, now=True)
        for number in range(len(self.projects)):
            ref = self.projects[number].id
            self.write(lambda tx, id_=ref: queue.resume(tx, id_, now=True, actor="u", request="r"))
        self.write(lambda tx: workers.scale(tx, SLOTS, default=SLOTS, actor="u"))
        for _ in range(10 * len(self.accepted) + 10):
            self.clock.advance(100_000)
            while self.conn.execute("SELECT 1 FROM approvals WHERE state = 'pending'").fetchone():
                self.answer(0)
            while self.claim() is not None:
                pass
            for execution in self.live():
                if execution.state is ExecutionState.RUNNING:
                    self.write(
                        lambda tx, id_=execution.id: work.end(tx, id_, ENDS["done"], rules=RULES)
                    )
            self.write(lambda tx: queue.resume(tx, None, now=True, actor="u", request="r"))
        left = self.conn.execute(
            "SELECT id, state, hold FROM orders WHERE state IN ('queued','claimed')"
        ).fetchall()
        assert [tuple(row) for row in left] == []


Queue.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestQueue = Queue.TestCase

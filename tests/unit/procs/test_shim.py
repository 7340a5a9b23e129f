"""The shim's parts on their own, on a time that is only a number."""

import os
from pathlib import Path

import pytest

from hivectl.kit import failpoint
from hivectl.procs import shim


class FakeBody:
    """A child that does what a test says."""

    is_shim_lost = False
    look_s: float | None = None

    def __init__(self) -> None:
        self.status: int | None = None
        self.is_ended = False
        self.is_alone = False
        self.swept = 0
        self.denied: set[int] = set()
        self.calls: list[str] = []
        self.dies_by_term = False

    def reap(self, now: float) -> None:
        pass

    def end(self, status: int, *, alone: bool = True) -> None:
        self.status, self.is_ended, self.is_alone = status, True, alone

    def terminate(self) -> None:
        self.calls.append("term")
        if self.dies_by_term:
            self.end(15)

    def sweep(self, now: float) -> bool:
        self.calls.append("sweep")
        self.status = 9 if self.status is None else self.status
        self.is_ended = self.is_alone = True
        return True


class Rig:
    """A supervisor with real pipes and files and a fake child."""

    def __init__(self, place: Path, **spec: object) -> None:
        self.pipes: dict[str, tuple[int, int]] = {}
        for name in ("in", "out", "err"):
            read, write = os.pipe()
            os.set_blocking(read, False)
            os.set_blocking(write, False)
            self.pipes[name] = (read, write)
        self.files = [shim.open_new(str(place / name)) for name in ("out", "err", "frames")]
        os.pwrite(self.files[2], shim.FRAMES_NONE, 0)
        self.spools = {
            "out": shim.Spool(self.pipes["out"][0], self.files[0]),
            "err": shim.Spool(self.pipes["err"][0], self.files[1]),
        }
        self.stdin = shim.Stdin(self.pipes["in"][1], shim.Frames(self.files[2]))
        self.body = FakeBody()
        fields = {"rung_interrupt": 5, "rung_close": 2, "rung_term": 5, "linger": 0.5, **spec}
        limits = shim.Limits({key: str(value) for key, value in fields.items()})
        self.limits = limits
        self.supervisor = shim.Supervisor(limits, self.spools, self.stdin, self.body, 0.0)

    def say(self, data: bytes) -> None:
        os.write(self.pipes["out"][1], data)

    def heard(self) -> bytes:
        try:
            return os.read(self.pipes["in"][0], 1 << 20)
        except BlockingIOError:
            return b""

    def run_to(self, end: float) -> None:
        """Turn whenever something is due, until `end`."""
        now = 0.0
        while (due := self.supervisor.due()) is not None and due <= end:
            now = max(now, due)
            self.supervisor.turn(now)
        self.supervisor.turn(end)

    def close(self) -> None:
        self.stdin.detach()
        for read, write in self.pipes.values():
            os.close(read)
            if write != self.pipes["in"][1]:
                os.close(write)
        for fd in self.files:
            os.close(fd)


@pytest.fixture
def rig(tmp_path: Path):
    made: list[Rig] = []

    def make(**spec: object) -> Rig:
        made.append(Rig(tmp_path, **spec))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_fields_come_back_as_they_were_and_a_torn_file_is_noticed() -> None:
    data = shim.pack({"a": 1, "b": "two words", "c": ""})
    assert shim.unpack(data) == {"a": "1", "b": "two words", "c": ""}
    assert shim.unpack(data.ljust(4096, b"\n")) == {"a": "1", "b": "two words", "c": ""}
    for cut in range(len(data) - 1):
        with pytest.raises(ValueError, match="not whole"):
            shim.unpack(data[:cut])


def test_a_launch_comes_back_as_it_was() -> None:
    argv, env = [b"/bin/x", b"", b"--a=\xff b\n"], {b"A": b"", b"B": b"x=y"}
    assert shim.unpack_launch(shim.pack_launch(argv, env, b"/tmp", 0o22)) == (
        argv,
        env,
        b"/tmp",
        0o22,
    )
    assert shim.unpack_launch(shim.pack_launch([b"x"], {}, b"/", 0)) == ([b"x"], {}, b"/", 0)


def test_the_shim_knows_the_failpoints_of_the_table() -> None:
    assert set(shim.FAILPOINTS) == set(failpoint.SHIM_NAMES)


def test_an_idle_child_needs_no_wake_up(rig) -> None:
    one = rig()
    one.supervisor.turn(0.0)
    assert one.supervisor.due() is None


def test_the_ladder_keeps_its_times(rig) -> None:
    one = rig(interrupt=b"stop!\n".hex())
    one.supervisor.stop("terminate", "user", 0.0)
    one.supervisor.turn(0.0)
    assert one.heard() == b"stop!\n"
    one.run_to(4.9)
    assert one.supervisor.rungs == ["interrupt"]
    assert one.stdin.is_open
    one.run_to(5.0)
    assert one.supervisor.rungs == ["interrupt", "close"]
    assert one.heard() == b""  # closed: a read gives the end
    one.run_to(6.9)
    assert one.body.calls == []
    one.run_to(7.0)
    assert one.body.calls == ["term"]
    one.run_to(11.9)
    assert one.body.calls == ["term"]
    one.run_to(12.0)
    assert one.body.calls == ["term", "sweep"]
    assert one.supervisor.phase == "done"
    assert one.supervisor.record()["reason"] == "user"
    assert one.supervisor.record()["signal"] == 9


def test_rungs_that_can_do_nothing_are_left_out(rig) -> None:
    one = rig()
    one.supervisor.close_stdin(0.0, hang=False)
    one.supervisor.stop("terminate", "user", 0.0)
    assert one.supervisor.rungs == ["term"]


def test_a_terminate_after_an_interrupt_goes_on_from_there(rig) -> None:
    one = rig(interrupt=b"stop!\n".hex())
    one.supervisor.stop("interrupt", "user", 0.0)
    one.run_to(3.0)
    one.supervisor.stop("terminate", "user", 3.0)
    one.supervisor.turn(3.0)
    assert one.heard() == b"stop!\n"
    one.run_to(5.0)
    assert one.supervisor.rungs == ["interrupt", "close"]


def test_a_terminate_long_after_an_interrupt_interrupts_anew(rig) -> None:
    one = rig(interrupt=b"stop!\n".hex())
    one.supervisor.stop("interrupt", "user", 0.0)
    one.run_to(100.0)
    one.supervisor.stop("terminate", "user", 100.0)
    one.supervisor.turn(100.0)
    assert one.heard() == b"stop!\n" * 2
    assert one.supervisor.rungs == ["interrupt"]


def test_an_interrupt_never_cuts_a_frame_in_two(rig) -> None:
    one = rig(interrupt=b"!".hex())
    answers: list[bool] = []
    one.stdin.add("big", b"b" * 100_000, answers.append, first=False)
    one.stdin.add("next", b"n", answers.append, first=False)
    one.supervisor.turn(0.0)
    one.supervisor.stop("interrupt", "user", 0.0)
    data = b""
    for _ in range(4):
        data += one.heard()
        one.supervisor.turn(0.1)
    assert data == b"b" * 100_000 + b"!n"
    assert answers == [True, True]


def test_no_limit_strikes_while_the_ladder_is_climbed(rig) -> None:
    one = rig(deadline=1, interrupt=b"!".hex())
    one.supervisor.stop("terminate", "user", 0.5)
    one.run_to(2.0)
    assert one.supervisor.reason == "user"


def test_silence_on_a_full_disk_is_no_fault(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(no_output=10)
    one.say(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(one.spools["out"], "_splice", full_disk)
        one.supervisor.turn(0.0)
        one.run_to(30.0)
        assert one.supervisor.is_stalled
        assert one.supervisor.reason is None
    one.run_to(30.5)
    one.run_to(39.0)
    assert one.supervisor.reason is None
    one.run_to(41.0)
    assert one.supervisor.reason == "no_output"


def test_a_full_disk_at_the_end_is_waited_for_and_then_told(
    rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig()
    one.say(b"last words")
    monkeypatch.setattr(one.spools["out"], "_splice", full_disk)
    one.body.end(0)
    one.supervisor.turn(0.0)
    one.run_to(shim.FULL_AT_END_S - 1)
    assert one.supervisor.phase == "flush"
    one.run_to(shim.FULL_AT_END_S + 1)
    assert one.supervisor.phase == "done"
    assert one.supervisor.record()["unflushed"] == 1
    assert one.supervisor.record()["code"] == 0


def full_disk(limit: int) -> int:
    raise OSError(28, "no room")


def test_output_that_waited_for_room_is_complete(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    one.say(b"last words")
    with monkeypatch.context() as patch:
        patch.setattr(one.spools["out"], "_splice", full_disk)
        one.body.end(0)
        one.supervisor.turn(0.0)
        assert one.supervisor.is_stalled
    one.run_to(1.0)
    assert one.supervisor.phase == "done"
    record = one.supervisor.record()
    assert (record["out"], record["unflushed"]) == (10, 0)
    assert os.pread(one.files[0], 100, 0) == b"last words"


def test_where_there_is_no_splice_a_full_disk_loses_nothing_either(
    rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig()
    spool = one.spools["out"]
    spool._can_splice = False
    one.say(b"0123456789")

    def no_room(*_: object) -> int:
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_room)
        assert spool.move(100) == 0
        assert spool.is_full
    assert spool.move(100) == 10
    assert os.pread(one.files[0], 100, 0) == b"0123456789"


def test_a_file_system_without_splice_is_copied_to(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()

    def invalid(limit: int) -> int:
        raise OSError(22, "invalid")

    monkeypatch.setattr(one.spools["out"], "_splice", invalid)
    one.say(b"abc")
    assert one.spools["out"].move(100) == 3
    assert one.spools["out"].size == 3


def test_state_survives_in_another_process(rig, tmp_path: Path) -> None:
    one = rig(interrupt=b"!".hex(), deadline=50)
    one.supervisor.stop("terminate", "shutdown", 1.0)
    one.run_to(6.5)
    state = shim.unpack(shim.pack(one.supervisor.state()))
    place = tmp_path / "other"
    place.mkdir()
    other = Rig(place, interrupt=b"!".hex(), deadline=50)
    try:
        other.supervisor.restore(state)
        assert other.supervisor.state() == one.supervisor.state()
        other.run_to(8.0)
        assert other.body.calls == ["term"]
        assert other.supervisor.rungs == ["interrupt", "close", "term"]
    finally:
        other.close()


def frames_file(place: Path) -> int:
    fd = shim.open_new(str(place / "f"))
    os.pwrite(fd, shim.FRAMES_NONE.ljust(shim.FRAMES_BYTES, b"\0"), 0)
    return fd


def test_frames_are_remembered_with_what_was_written_of_the_last(tmp_path: Path) -> None:
    fd = frames_file(tmp_path)
    frames = shim.Frames(fd)
    frames.begin("one", 3)
    assert frames.advance(3)
    frames.begin("two", 10)
    again = shim.Frames(fd)
    assert (again.begun, again.begin("two", 10)) == ("two", 0)
    assert not frames.advance(4)
    again = shim.Frames(fd)
    assert again.is_done("one")
    assert not again.is_done("two")
    assert again.begin("two", 10) == 4
    assert again.advance(6)
    assert shim.Frames(fd).is_done("two")
    again.end()
    assert shim.Frames(fd).is_closed
    os.close(fd)


def test_more_frames_than_were_planned_for_are_remembered_too(tmp_path: Path) -> None:
    fd = frames_file(tmp_path)
    frames = shim.Frames(fd)
    for number in range(2000):
        frames.begin(f"frame-{number}", 1)
        frames.advance(1)
    again = shim.Frames(fd)
    assert all(again.is_done(f"frame-{number}") for number in range(2000))
    os.close(fd)


def test_a_frame_that_was_begun_by_another_is_finished_before_the_next(rig) -> None:
    one = rig()
    frames = shim.Frames(one.files[2])
    frames.begin("old", 6)
    frames.advance(2)
    stdin = shim.Stdin(one.pipes["in"][1], shim.Frames(one.files[2]))
    answers: list[str] = []
    stdin.add("new", b"new", lambda _: answers.append("new"), first=False)
    assert not stdin.is_waiting
    stdin.pump()
    assert one.heard() == b""
    stdin.add("old", b"abcdef", lambda _: answers.append("old"), first=False)
    stdin.pump()
    assert one.heard() == b"cdefnew"
    assert answers == ["old", "new"]


def test_a_queue_that_is_full_refuses(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    monkeypatch.setattr(shim, "MAX_QUEUE_BYTES", 10)
    answers: list[bool] = []
    one.stdin.add("a", b"x" * 8, answers.append, first=False)
    one.stdin.add("b", b"x" * 8, answers.append, first=False)
    assert answers == [False]


def test_a_deadline_beyond_what_poll_can_take_is_no_problem(rig) -> None:
    one = rig(deadline=10**9)
    one.supervisor.turn(0.0)
    assert one.supervisor.due() == 10**9
    assert shim.MAX_POLL_MS < 2**31

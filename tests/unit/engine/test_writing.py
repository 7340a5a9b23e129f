"""The stdin of one execution: frames in order, an end of input after them, decisions noted as heard."""

import asyncio
from types import SimpleNamespace

from hivectl.engine.writing import Writer
from hivectl.kit.aio import Nursery


class Pipe:
    """A handle as far as a writer needs one; `gate` closed is a Claude that does not read."""

    def __init__(self):
        self.heard = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, frame, data):
        await self.gate.wait()
        self.heard.append((frame, data))
        return True

    async def close_stdin(self, *, hang):
        self.heard.append(("end", hang))


class Heard:
    """What a writer sees of a live execution."""

    id = "x_1"

    def __init__(self):
        self.failures = []
        self.handle = Pipe()
        self.world = SimpleNamespace(
            nursery=Nursery(lambda name, error: self.failures.append(error))
        )
        self.noted = []
        self.conversation = self

    def answer(self, request, answer):
        return f"answer:{request}", str(answer.allow).encode()

    async def insist(self, ask):
        await ask()

    async def commit(self, change):
        self.noted.append(change.keywords["id_"])


async def settled(writer):
    async with asyncio.timeout(5):
        while writer._task is not None and not writer._task.done():
            await asyncio.sleep(0)


async def test_frames_go_out_in_order_and_the_end_comes_last_and_once():
    live = Heard()
    writer = Writer(live)
    assert writer.is_idle
    writer.add("a", b"1")
    writer.add("b", b"2")
    writer.close()
    writer.close()
    await settled(writer)
    assert live.handle.heard == [("a", b"1"), ("b", b"2"), ("end", True)]
    assert not writer.is_idle, "its input is closed"


async def test_a_frame_that_is_not_taken_holds_the_others_and_the_writer_is_not_idle():
    live = Heard()
    writer = Writer(live)
    live.handle.gate.clear()
    writer.add("a", b"1")
    writer.kick()
    await asyncio.sleep(0)
    writer.add("b", b"2")
    writer.kick()
    assert not writer.is_idle
    live.handle.gate.set()
    await settled(writer)
    assert [frame for frame, _ in live.handle.heard] == ["a", "b"]
    assert writer.is_idle


async def test_a_decision_is_noted_once_it_is_written():
    live = Heard()
    writer = Writer(live)
    writer.answer(SimpleNamespace(id="a_1", request="q1", answer={"allow": True}))
    assert live.noted == []
    await settled(writer)
    assert (live.handle.heard, live.noted) == ([("answer:q1", b"True")], ["a_1"])
    assert not live.failures

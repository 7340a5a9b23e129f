"""Threads: who may write where, what is unread, and what is an answer."""

import pytest

from hivectl.model.access import PERSON_SCOPES, Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.store import chats
from tests.unit.services.test_questions import WORKER, asked, asks, started

READER = Caller(actor="user:r", scopes=frozenset({Scope.READ, Scope.EXECUTE}), request="r_9")


async def test_a_thread_has_the_question_its_answer_and_the_time_it_waits(desk, tmp_path):
    async with desk(asks({"question": "Which?", "choices": ["a"], "context": "why"})) as d:
        execution = await started(d, tmp_path)
        item = await asked(d, execution)
        (thread,) = (await d.call("chat.list", waiting=True))["items"]
        assert (thread["execution"], thread["unread"], thread["title"]) == (execution, 1, "hi")
        assert thread["waiting_for"] == [item["id"]]
        assert thread["waiting_since"] == item["created_at"]
        page = await d.call("chat.messages", thread=execution)
        (request,) = page["items"]
        assert (request["type"], request["role"], request["question"]) == (
            "request",
            "worker",
            item["id"],
        )
        assert request["text"] == "Which?\n1. a\n\nwhy"
        sent = await d.call("chat.send", thread=thread["thread"], parent=request["id"], text="b")
        assert sent["answered"] == item["id"]
        assert (sent["message"]["parent"], sent["message"]["author"]) == (request["id"], "user:t")
        assert (await d.call("execution.wait", execution=execution))["result"] == "b"
        assert (await d.call("chat.list", waiting=True))["items"] == []
        # A second reply to the same message is a message like any other.
        again = await d.call("chat.send", thread=execution, parent=request["id"], text="thanks")
        assert again["answered"] is None


async def test_s16_a_reply_that_answers_needs_the_right_to_approve(desk, tmp_path):
    async with desk(asks({"question": "Which?"})) as d:
        execution = await started(d, tmp_path)
        item = await asked(d, execution)
        child = Caller(actor="user:t", scopes=PERSON_SCOPES, execution=execution, request="r")
        for caller, code in ((child, "SELF_APPROVAL_DENIED"), (READER, "FORBIDDEN")):
            with pytest.raises(HiveError) as caught:
                await d.call(
                    "chat.send", caller=caller, thread=execution, parent=item["message_id"], text="x"
                )  # fmt: skip
            assert caught.value.code == code
        told = await d.call("chat.send", caller=child, thread=execution, text="half way")
        assert (told["message"]["role"], told["message"]["author"]) == (
            "worker",
            f"execution:{execution}",
        )
        assert (await d.call("question.get", id=item["id"]))["state"] == "pending"
        other = (await d.call("chat.send", text="hello"))["message"]["thread"]
        with pytest.raises(HiveError) as caught:
            await d.call("chat.send", caller=child, thread=other, text="x")
        assert caught.value.code == "FORBIDDEN"
        await d.call("question.answer", id=item["id"], text="ok")
        await d.call("execution.wait", execution=execution)


async def test_unread_counts_what_others_wrote_for_each_reader(desk):
    async with desk() as d:
        sent = await d.call("chat.send", text="good morning", title="Night")
        thread = sent["message"]["thread"]
        for text in ("one", "two"):
            await d.call("chat.send", caller=READER, thread=thread, text=text)

        async def unread(caller=None):
            given = {} if caller is None else {"caller": caller}
            (item,) = (await d.call("chat.list", **given))["items"]
            return item["unread"]

        assert (await unread(), await unread(READER)) == (2, 0)
        first = (await d.call("chat.messages", thread=thread))["items"][1]
        assert (await d.call("chat.read", thread=thread, message=first["id"]))["unread"] == 1
        assert (await d.call("chat.read", thread=thread))["unread"] == 0
        # Never back.
        assert (await d.call("chat.read", thread=thread, message=first["id"]))["unread"] == 0


async def test_pages_of_threads_and_messages_end(desk):
    async with desk() as d:
        for number in range(5):
            sent = await d.call("chat.send", text=f"thread {number}")
        assert [len(page) for page in await d.pages("chat.list", limit=2)] == [2, 2, 1]
        thread = sent["message"]["thread"]
        for number in range(3):
            await d.call("chat.send", thread=thread, text=str(number))
        first = await d.call("chat.messages", thread=thread, limit=2)
        rest = await d.call("chat.messages", thread=thread, after=first["next"])
        assert [m["text"] for m in first["items"] + rest["items"]] == ["thread 4", "0", "1", "2"]
        back = await d.call("chat.messages", thread=thread, order="desc", limit=1)
        assert back["items"][0]["text"] == "2"


async def test_a_worker_has_one_thread(desk):
    async with desk() as d:
        threads = {
            (await d.call("question.ask", caller=WORKER, text="?"))["thread"] for _ in range(3)
        }
        assert len(threads) == 1


async def test_limits_are_named(desk, monkeypatch):
    monkeypatch.setattr(chats, "MESSAGES_MAX", 2)
    monkeypatch.setattr(chats, "THREADS_MAX", 1)
    async with desk() as d:
        thread = (await d.call("chat.send", text="one"))["message"]["thread"]
        await d.call("chat.send", thread=thread, text="two")
        for given in ({"thread": thread}, {}):
            with pytest.raises(HiveError) as caught:
                await d.call("chat.send", text="more", **given)
            assert caught.value.code == "RESOURCE_LIMIT"


async def test_what_does_not_exist_is_not_found(desk):
    async with desk() as d:
        thread = (await d.call("chat.send", text="one"))["message"]["thread"]
        for method, given in (
            ("chat.messages", {"thread": "ch_1"}),
            ("chat.read", {"thread": "ch_1"}),
            ("chat.read", {"thread": thread, "message": "m_1"}),
            ("chat.send", {"thread": "ch_1", "text": "x"}),
            ("chat.send", {"thread": thread, "parent": "m_1", "text": "x"}),
        ):
            with pytest.raises(HiveError) as caught:
                await d.call(method, **given)
            assert caught.value.code == "CHAT_NOT_FOUND"
        with pytest.raises(HiveError) as caught:
            await d.call("chat.list", cursor="nonsense")
        assert caught.value.code == "INVALID_PARAMS"

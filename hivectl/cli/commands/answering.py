"""answer and chat: what Claude and other workers want to know from you."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hivectl.client.aio import Client


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("answer")(answer)
    app.command("chat")(chat)


def answer(
    ctx: typer.Context,
    id_: Annotated[str | None, typer.Argument(metavar="[QUESTION]", help="Its id, as `hivectl inbox` shows it; without one every question that waits, one after the other.", autocompletion=completing.questions)] = None,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The answer in your own words.")] = None,
    choice: Annotated[list[str] | None, typer.Option("-c", "--choice", metavar="N", help="A choice by its number or text; repeatable where several may be taken.")] = None,
    answers: Annotated[list[str] | None, typer.Option("--answer", metavar="[QUESTION=]TEXT", help="For several questions: a choice or your own words for each, in their order or by name.")] = None,
    decline: Annotated[bool, typer.Option("--decline", help="There will be no answer; TEXT says why.")] = False,
) -> None:  # fmt: skip
    """Answer a question of Claude or of a worker.

    At a terminal you are asked for what the command line does not say. The first answer counts."""
    from hivectl.cli import questions
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj

    async def one(client: Client, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        said = questions.given(
            found, text=text or "", choices=choice or [], answers=answers or [], decline=decline
        )
        if said is None:
            if not hive.screen.is_interactive:
                raise HiveError(
                    "INVALID_PARAMS",
                    f"{found['id']} needs an answer.",
                    hint=f'Such as: hivectl answer {found["id"]} "…", or --choice 1; `hivectl inbox --json` shows the choices.',
                )
            if found["state"] != "pending":
                raise HiveError("ALREADY_DECIDED", f"{found['id']} is {found['state']} already.")
            said = await questions.ask(hive.screen, found)
        return None if said is None else await questions.send(client, found, said)

    async def work(client: Client) -> list[Mapping[str, Any]]:
        from hivectl.cli.session import all_items

        if id_ is not None:
            done = await one(client, await client.call("question.get", id=id_))
            return [] if done is None else [done]
        found = await all_items(client, "question.list")
        if not found:
            hive.screen.note(("dim", "nobody asks anything"))
        done_all = []
        for item in found:
            done = await one(client, item)
            if done is None:
                break
            done_all.append(done)
        return done_all

    _print(hive, hive.run(work))


def _print(hive: Session, done: list[Mapping[str, Any]]) -> None:
    from hivectl.cli import questions

    match hive.options.output:
        case "json" | "yaml":
            hive.print_document(done[0] if len(done) == 1 else {"items": done})
        case "name":
            hive.screen.result("\n".join(str(item["id"]) for item in done))
        case _:
            for item in done:
                hive.screen.result(questions.answered(item))


def chat(
    ctx: typer.Context,
    thread: Annotated[str | None, typer.Argument(metavar="[THREAD|EXECUTION]", help="Open this one; without it the threads are listed.", autocompletion=completing.threads)] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="Send this and leave; it answers the question that waits there.")] = None,
    project: Annotated[str | None, typer.Option("-p", "--project", metavar="PROJECT", help="List only this project's.", autocompletion=completing.projects)] = None,
    waiting: Annotated[bool, typer.Option("-w", "--waiting", help="List only those where a question waits.")] = False,
) -> None:  # fmt: skip
    """Threads in which Claude asks and people answer.

    One of them opens live at a terminal: a line you type is sent, and answers the question that waits; Ctrl-D
    leaves."""
    hive: Session = ctx.obj
    if thread is None:
        _list(hive, project, is_waiting=waiting)
    elif message is not None:
        _send(hive, thread, message)
    else:
        _open(hive, thread)


def _list(hive: Session, project: str | None, *, is_waiting: bool) -> None:
    from hivectl.cli import chatting

    params: dict[str, Any] = {"waiting": True} if is_waiting else {}
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await client.call("chat.list", **params)

    page = hive.run(work)
    if hive.options.output in {"table", "wide"}:
        page = {**page, "items": chatting.rows(page["items"])}
    hive.print_items("thread", page, empty="nobody has asked or written anything yet")


def _send(hive: Session, thread: str, message: str) -> None:
    from hivectl.cli import chatting

    async def work(client: Client) -> Any:
        found = await client.call("chat.read", thread=thread)
        open_ = await chatting.open_of(client, found)
        return await chatting.say(client, found, open_[0] if open_ else None, message)

    sent = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(sent)
    else:
        hive.screen.result(f"answered {sent['answered']}" if sent["answered"] else "sent")


def _open(hive: Session, thread: str) -> None:
    from hivectl.cli import chatting

    async def work(client: Client) -> None:
        found = await client.call("chat.read", thread=thread)
        if hive.screen.is_interactive and hive.options.output in {"table", "wide"}:
            await chatting.Talk(hive=hive, client=client, thread=found).run()
            return
        items = await chatting.pages(client, found["thread"])
        if hive.options.output in {"json", "yaml"}:
            hive.print_document({**found, "items": items})
            return
        for item in items:
            chatting.show(hive, item)

    hive.run(work)

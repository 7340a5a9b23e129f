"""What every command has: the global options, the settings, a client, and one way to print.

A command is parse, one call, print; this is the printing and the calling.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from hivectl.cli import failure, jsonline, views
from hivectl.cli.screen import Screen
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client
    from hivectl.config import Settings

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Globals:
    """The options every command takes."""

    output: str = "table"
    color: bool | None = None
    autostart: bool | None = None
    verbose: int = 0


@dataclass(kw_only=True)
class Session:
    """One run of the CLI."""

    options: Globals = field(default_factory=Globals)
    warns: bool = True
    """Whether wrong settings and unknown variables are told on stderr; off where a report tells them."""
    _told: bool = False

    @cached_property
    def screen(self) -> Screen:
        """The terminal."""
        return Screen(color=self.options.color)

    @cached_property
    def settings(self) -> Settings:
        """All settings; unknown variables and wrong values are named once.

        A wrong one does not stand in the way of talking to a daemon: that has read its own. None is
        started with it, and that is where it is an error."""
        from hivectl import config

        settings = config.survey()
        if self.warns:
            for warning in settings.warnings:
                self.screen.note(("warn", "warning: "), ("", warning))
            if settings.faults and _has_daemon(settings):
                self.tell_faults(settings)
        return settings

    def tell_faults(self, settings: Settings) -> None:
        """Name every wrong setting that was left at its default, once."""
        if self._told:
            return
        self._told = True
        for fault in settings.faults:
            self.screen.note(
                ("warn", "warning: "), ("", fault.message), ("dim", f" - {fault.hint}")
            )

    @property
    def is_json(self) -> bool:
        """Whether a program reads."""
        return self.options.output == "json"

    def client(self) -> Client:
        """A client that starts the daemon when that is allowed."""
        from hivectl.client.aio import Client

        return Client(
            self.settings, autostart=self.options.autostart, name="hivectl", say=self._say
        )

    def _say(self, text: str) -> None:
        self.screen.note(("dim", text))

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Connect, do the work, leave. HiveErrors get a `did you mean` where one is near."""

        import asyncio

        async def whole() -> T:
            client = self.client()
            try:
                await client.connect()
                self._warn_of_skew(client)
                try:
                    return await work(client)
                except HiveError as exc:
                    raise await self._with_suggestion(client, exc) from exc
            finally:
                await client.close()

        return asyncio.run(whole())

    def _warn_of_skew(self, client: Client) -> None:
        import hivectl

        theirs = client.info["version"] if client.info else hivectl.__version__
        if theirs != hivectl.__version__:
            self.screen.note(
                ("warn", "warning: "),
                ("", f"the daemon is version {theirs}, this is {hivectl.__version__}; "),
                ("", "`hivectl daemon restart` makes them the same"),
            )

    async def _with_suggestion(self, client: Client, exc: HiveError) -> HiveError:
        if exc.code != "PROJECT_NOT_FOUND" or "Did you mean" in exc.hint:
            return exc
        try:
            projects = await all_items(client, "project.list")
        except HiveError:
            return exc
        word = str(exc.details.get("project") or _quoted(exc.message))
        hint = failure.closest(word, [item["name"] for item in projects])
        if not hint:
            return exc
        return HiveError(exc.code, exc.message, hint=f"{hint} {exc.hint}", details=exc.details)

    # -- printing -----------------------------------------------------------------------------

    def print_items(self, noun: str, page: Mapping[str, Any], *, empty: str) -> None:
        """A list of a noun in the wanted format."""
        items: Sequence[Mapping[str, Any]] = page["items"]
        match self.options.output:
            case "json" | "yaml":
                self.print_document(page)
            case "name":
                self.screen.result(views.names(noun, items))
            case wanted:
                if not items:
                    self.screen.note(("dim", empty))
                    return
                text = views.table(
                    noun,
                    items,
                    is_wide=wanted == "wide",
                    now_s=now_s(),
                    width=self.screen.table_width,
                )
                self.screen.result(text)

    def print_item(self, noun: str, item: Mapping[str, Any], text: Callable[[], str] | str) -> None:
        """One of a noun: `text` is for people."""
        match self.options.output:
            case "json" | "yaml":
                self.print_document(item)
            case "name":
                self.screen.result(views.names(noun, [item]))
            case _:
                self.screen.result(text if isinstance(text, str) else text())

    def print_changed(self, done: Mapping[str, Any], text: str) -> None:
        """What a command changed: `text` is for people."""
        match self.options.output:
            case "json" | "yaml":
                self.print_document(done)
            case "name":
                pass
            case _:
                self.screen.result(text)

    def print_document(self, document: Any) -> None:
        """JSON or YAML, whole. Escapes everything a terminal would obey."""
        if self.options.output == "yaml":
            import yaml

            self.screen.result(
                yaml.safe_dump(_plain(document), sort_keys=False, allow_unicode=True).rstrip()
            )
            return
        self.screen.result(jsonline.dump(document))


def _has_daemon(settings: Settings) -> bool:
    from hivectl.client import transport

    return bool(settings.environment.get("HIVECTL_URL")) or transport.is_answering(
        settings.places.socket
    )


def _plain(document: Any) -> Any:
    import json

    return json.loads(json.dumps(document, default=str))


def _quoted(message: str) -> str:
    parts = message.replace('"', "'").split("'")
    return parts[1] if len(parts) > 2 else message.rsplit(" ", maxsplit=1)[-1].rstrip(".")


def now_s() -> float:
    """Seconds since the epoch."""
    from hivectl.kit.clock import SystemClock

    return SystemClock().now_us() / 1_000_000


async def all_items(client: Client, method: str, **params: Any) -> list[dict[str, Any]]:
    """Every page of a list."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await client.call(method, **params, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page.get("next_cursor")
        if not cursor:
            return items


async def all_pages(client: Client, method: str, **params: Any) -> dict[str, Any]:
    """The same as one page without a next."""
    return {"items": await all_items(client, method, **params), "next_cursor": None}

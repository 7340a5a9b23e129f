"""Drop old log segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hivectl.cli import table, views
from hivectl.cli.choosing import duration
from hivectl.cli.session import Session
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client


def run(
    hive: Session, project: str | None, *, older_than: str | None, keep: str | None, dry_run: bool
) -> None:
    """Ask the daemon, print what went. Raises HiveError INVALID_PARAMS when no measure is given."""
    if older_than is None and keep is None:
        raise HiveError(
            "INVALID_PARAMS",
            "Nothing says what is old.",
            hint="Give --older-than 30d, --keep 1G, or both; --dry-run only looks.",
        )
    params: dict[str, Any] = {"dry_run": dry_run}
    if project:
        params["project"] = project
    if older_than:
        params["older_than_s"] = duration(older_than, "--older-than")
    if keep:
        params["keep_bytes"] = _size(keep)

    async def work(client: Client) -> Any:
        return await client.call("log.prune", **params)

    done = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(done)
        return
    word = "would free" if done["dry_run"] else "freed"
    rows = [(stream, views.size(count)) for stream, count in done["streams"].items() if count]
    if rows:
        hive.screen.result(table.pairs(rows))
    hive.screen.result(f"{word} {views.size(done['freed_bytes'])}")


def _size(text: str) -> int:
    from hivectl import config

    try:
        return int(config.parse_value("log.retention_bytes", text, "--keep"))
    except HiveError as exc:
        raise HiveError(
            "INVALID_PARAMS", f"--keep {text!r} is no size.", hint="Such as 500M or 1G."
        ) from exc

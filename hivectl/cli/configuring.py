"""Show settings with their origin; write one into the TOML file without touching the rest."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from hivectl import config
from hivectl.cli import table
from hivectl.cli.failure import closest
from hivectl.cli.session import Session
from hivectl.kit.files import ensure_private_dir, write_atomic
from hivectl.logic.environment import validate_additions
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def entries(settings: config.Settings) -> list[dict[str, Any]]:
    """Every setting as `config.get` shows it."""
    return [
        {
            "key": setting.key,
            "value": config.shown(setting, settings[setting.key]),
            "origin": settings.origins[setting.key],
            "default": setting.default,
            "meaning": setting.meaning,
        }
        for setting in config.SETTINGS
    ]


def show(hive: Session, key: str | None, *, has_origin: bool) -> None:
    """Print one setting or all."""
    settings = hive.settings
    items = entries(settings)
    hive.tell_faults(settings)
    if key is not None:
        items = [item for item in items if item["key"] == key]
        if not items:
            raise _unknown(key)
    match hive.options.output:
        case "json" | "yaml":
            document: Any = {"items": items, "file": str(hive.settings.places.config_file)}
            hive.print_document(items[0] if key else document)
        case "name":
            hive.screen.result("\n".join(item["key"] for item in items))
        case _ if key and not has_origin:
            hive.screen.result(_text(items[0]["value"]))
        case wanted:
            hive.screen.result(_table(hive, items, has_origin=has_origin or wanted == "wide"))


def _table(hive: Session, items: list[dict[str, Any]], *, has_origin: bool) -> str:
    headers = ["SETTING", "VALUE", *(["ORIGIN"] if has_origin else []), "MEANING"]
    rows = [
        [
            item["key"],
            _text(item["value"]) or '""',
            *([item["origin"]] if has_origin else []),
            item["meaning"],
        ]
        for item in items
    ]
    return table.render(headers, rows, width=hive.screen.table_width)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(value) or "[]"
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items()) or "{}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def write(hive: Session, key: str, text: str) -> None:
    """Check the value and put it into the file. Raises HiveError CONFIG_INVALID."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    file = hive.settings.places.config_file
    table_key, entry = _entry_of(key)
    setting = config.BY_KEY.get(table_key or key)
    if setting is None:
        raise _unknown(key)
    if setting.is_secret or (setting.hides_values and text == "-"):
        text = _secret(hive, setting, text)
    raw: Any = _table_of(text) if setting.kind == "table" and not entry else text
    if entry and table_key == "claude.env":
        validate_additions({entry: text}, field=table_key)
    elif entry and text:
        config.parse_value(table_key, {entry: text}, "the command line")
    value = text if entry else config.parse_value(key, raw, "the command line")
    try:
        document = (
            tomlkit.parse(file.read_text(encoding="utf-8")) if file.exists() else tomlkit.document()
        )
    except (TOMLKitError, UnicodeDecodeError) as exc:
        raise config.not_toml(file, exc) from exc
    except OSError as exc:
        raise HiveError(
            "CONFIG_INVALID", f"{file} cannot be read: {exc}", hint="Mend it by hand first."
        ) from exc
    *sections, name = (*table_key.split("."), entry) if entry else key.split(".", 1)
    place = _section(document, sections, file)
    if entry and not value:
        place.pop(name, None)
    elif name in place:
        # Assigning to the item keeps the comment that stands behind it.
        comment = place.item(name).trivia if hasattr(place, "item") else None
        new = tomlkit.item(_as_toml(value, text))
        if comment is not None:
            new.trivia.comment_ws, new.trivia.comment = comment.comment_ws, comment.comment
        place[name] = new
    else:
        place[name] = _as_toml(value, text)
    _write_file(hive, tomlkit.dumps(document))
    _tell(hive, key, value, text)


def _secret(hive: Session, setting: config.Setting, text: str) -> str:
    """What is to be kept secret comes in through standard input: every user can read command lines.

    Raises HiveError INVALID_PARAMS."""
    import sys

    if text not in ("", "-"):
        raise HiveError(
            "INVALID_PARAMS",
            f"{setting.key} may hold secrets, and command lines can be read by others and are remembered by shells.",
            hint=f"Run `hivectl config set {setting.key} -` and type it, or write it into {hive.settings.places.config_file}.",
        )
    if not text:
        return ""
    if hive.screen.is_interactive:
        from getpass import getpass

        return getpass(f"{setting.key} (not shown): ").strip()
    return sys.stdin.readline().strip()


def _section(document: Any, names: Sequence[str], file: Path) -> Any:
    """The table of these names in the document, made where it is missing."""
    import tomlkit

    place: Any = document
    for section in names:
        if section not in place:
            place[section] = tomlkit.table()
        place = place[section]
        if not isinstance(place, MutableMapping):
            raise HiveError(
                "CONFIG_INVALID",
                f"{section} in {file} is no section.",
                hint=f"Remove the line that begins `{section} =`.",
            )
    return place


def _unknown(key: str) -> HiveError:
    hint = f"{closest(key, config.BY_KEY)} `hivectl config show` lists the settings.".strip()
    return HiveError(
        "CONFIG_INVALID", f"There is no setting {key!r}.", hint=hint, details={"key": key}
    )


def _entry_of(key: str) -> tuple[str, str]:
    """`claude.env.FOO` is the entry FOO of the table claude.env; ("", "") for what is no entry."""
    for setting in config.SETTINGS:
        if setting.kind == "table" and key.startswith(f"{setting.key}."):
            name = key.removeprefix(f"{setting.key}.")
            return setting.key, name
    return "", ""


def _as_toml(value: Any, text: str) -> Any:
    """Durations and sizes stay as they were typed: `1h30m` says more than 5400.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if text.isdigit():
            return int(text)
        return text
    return value


def _echo(setting: config.Setting, value: Any, text: str) -> str:
    """As it was typed, and what that means."""
    unit = {"duration": " s", "size": " bytes"}.get(setting.kind, "")
    meant = _text(value)
    return f"{text}, that is {meant}{unit}" if unit and text != meant else meant or '""'


def _table_of(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): value for name, _, value in pairs}


def _write_file(hive: Session, text: str) -> None:
    file = hive.settings.places.config_file
    try:
        if not file.parent.exists():
            ensure_private_dir(file.parent)
        write_atomic(file, text.encode("utf-8"))
    except OSError as exc:
        raise HiveError("CONFIG_INVALID", f"{file} cannot be written: {exc.strerror}") from exc


def _tell(hive: Session, key: str, value: Any, text: str) -> None:
    file = str(hive.settings.places.config_file)
    setting = config.BY_KEY[_entry_of(key)[0] or key]
    if (setting.is_secret or setting.hides_values) and value:
        is_entry = key != setting.key
        value, text = config.HIDDEN if is_entry else config.shown(setting, value), config.HIDDEN
    document: Mapping[str, Any] = {"key": key, "value": value, "origin": file}
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(document)
        return
    hive.screen.result(f"{key} = {_echo(setting, value, text)}  ({file})")
    now = config.survey()
    if now.origins[setting.key] not in {file, "default"}:
        origin = now.origins[setting.key]
        hive.screen.note(("warn", "note: "), ("", f"{origin} still wins over the file"))
    if not key.startswith("client."):
        when = "after `hivectl daemon restart`, which touches nothing that runs"
        if setting.reloads:
            when += ", or a SIGHUP"
        hive.screen.note(("dim", f"a running daemon takes it up {when}"))

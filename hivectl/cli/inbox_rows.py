"""How the live inbox looks: rows of styled pieces for a terminal of a size. Does no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hivectl.cli import asking, verdicts, views
from hivectl.cli.difference import Difference
from hivectl.cli.inbox import Inbox
from hivectl.cli.sanitize import one_line, reveal

Piece = tuple[str, str]
Row = list[Piece]
Item = Mapping[str, Any]

LIST_SHARE = 3
"""The list takes at most one part in so many of the screen."""
TEXT_MAX = 20_000
"""Characters of a field that are shown."""
_RISK = {"low": "good", "medium": "warn", "high": "bad"}
_KEYS = "j/k move  y allow  n deny  e edit  a always  i deny and stop  d details  q quit"


def rows(
    box: Inbox, diffs: Mapping[str, Difference | None], *, size: tuple[int, int], now_s: float
) -> list[Row]:
    """The whole screen. Notes in `box` what is drawn, which is what a key will mean."""
    _, height = size
    item = box.gone or (box.items.get(box.chosen) if box.chosen else None)
    box.drawn = None if item is None or box.gone is not None else (item["id"], item["version"])
    head: Row = [("title", "hivectl inbox"), ("dim", f"  {len(box.items)} waiting")]
    foot = _foot(box)
    body = detail_rows(item, diffs.get(item["id"]), now_s) if item else []
    if box.mode == "details":
        room = max(height - len(foot) - 2, 1)
        box.scroll = min(box.scroll, max(len(body) - room, 0))
        return [head, [("", "")], *body[box.scroll : box.scroll + room], *foot]
    listed = _list(box, max(height // LIST_SHARE, 3), now_s)
    room = max(height - len(listed) - len(foot) - 3, 1)
    if len(body) > room:
        body = [
            *body[: room - 1],
            [("warn", f"... {len(body) - room + 1} more lines: d shows all")],
        ]
    return [head, [("", "")], *listed, [("", "")], *body, *foot]


def _list(box: Inbox, most: int, now_s: float) -> list[Row]:
    if not box.items:
        return [[("dim", "nothing waits for you")]]
    names = list(box.items)
    at = names.index(box.chosen) if box.chosen in box.items else 0
    first = max(0, min(at - most // 2, len(names) - most))
    shown = [
        _line(box.items[name], name == box.chosen, now_s) for name in names[first : first + most]
    ]
    if len(names) > most:
        shown[-1] = (
            [("dim", f"  ... {len(names) - most + 1} more")]
            if first + most < len(names)
            else shown[-1]
        )
    return shown


def _line(item: Item, is_chosen: bool, now_s: float) -> Row:
    left = views.left(item, now_s)
    ends = f"  {left}" if left != "-" else ""
    return [
        ("bold" if is_chosen else "dim", "> " if is_chosen else "  "),
        (_RISK.get(str(item.get("risk")), ""), f"{item.get('risk') or '-':<7}"),
        ("", f"{one_line(str(item['project_name'])):<12.12} "),
        ("dim", f"{views.ago(item['created_at'], now_s):>4}{ends}  "),
        ("tool", f"{one_line(str(item['tool']))} "),
        ("bold" if is_chosen else "", one_line(views.what(item))),
    ]


def detail_rows(item: Item, diff: Difference | None, now_s: float) -> list[Row]:
    """One request, whole: nothing of it is hidden, controls are shown as escapes."""
    rows_: list[Row] = [
        [
            ("ask", _title(item)),
            ("dim", f"  {item['id']}  {item.get('project_name', '')}  {item['execution']}"),
        ]
    ]
    if item["state"] != "pending":
        rows_.append([("warn", f"  {views.decided({**item, 'delivered': True})}; j and k go on")])
    if item.get("risk"):
        rows_.append(
            [
                (_RISK.get(str(item["risk"]), ""), f"  risk: {item['risk']}"),
                ("dim", f", {item['risk_reason']}"),
            ]
        )
    if item.get("expires_at"):
        left = max(views.seconds_of(item["expires_at"]) - now_s, 0)
        rows_.append([("warn", f"  in {views.span(left)} without an answer: {item['on_timeout']}")])
    if item.get("description"):
        rows_ += _text("", str(item["description"]))
    if asking.needs_answers(item):
        for question in asking.questions_of(item):
            rows_ += _question(question)
        return rows_
    if diff is not None:
        note = f"  ({diff.note})" if diff.note else ""
        rows_.append([("dim", "  file: "), ("", reveal(diff.path)), ("dim", note)])
        rows_ += [[("", "  "), (style, line)] for style, line in diff.lines]
        return rows_
    for name, value in (item.get("input") or {}).items():
        rows_ += _text(
            f"{reveal(name)}: ",
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        )
    return rows_


def _title(item: Item) -> str:
    if asking.is_plan(item):
        return "Claude has a plan"
    if asking.needs_answers(item):
        return "Claude asks"
    return f"Claude wants to use {one_line(str(item['tool']))}"


def _text(label: str, text: str) -> list[Row]:
    cut = f"\n... {len(text):,} characters" if len(text) > TEXT_MAX else ""
    lines = (reveal(text[:TEXT_MAX]) + cut).split("\n")
    return [
        [("dim", f"  {label}" if n == 0 else "    "), ("", line)] for n, line in enumerate(lines)
    ]


def _question(question: Item) -> list[Row]:
    found: list[Row] = [[("bold", f"  {reveal(str(question.get('question', '')))}")]]
    options = [o for o in question.get("options") or [] if isinstance(o, Mapping)]
    for number, option in enumerate(options, 1):
        found.append(
            [("", f"    {number}. {reveal(str(option.get('label', '')))}"), ("dim", f"  {reveal(str(option.get('description') or ''))}")]
        )  # fmt: skip
    return found


def _foot(box: Inbox) -> list[Row]:
    news: list[Row] = [[("dim", one_line(text))] for text in box.news]
    return [[("", "")], *news, *_dialogue(box)]


def _dialogue(box: Inbox) -> Sequence[Row]:
    typed: Row = [("bold", f"  > {reveal(box.line)[-200:]}_")]
    match box.mode:
        case "message":
            return [[("ask", "Deny: why? Claude reads it. Enter sends, Esc goes back.")], typed]
        case "interrupt":
            return [[("ask", "Deny and stop its turn: why? Enter sends, Esc goes back.")], typed]
        case "answers" if box.question is not None:
            many = ", several as 1,3" if box.question.get("multiSelect") is True else ""
            ask = f"{reveal(str(box.question.get('question', '')))}  A number{many}, or your own words; Esc goes back."
            return [[("ask", ask)], typed]
        case "always" if box.rule is not None and box.bound is not None:
            lines = verdicts.rule_text(
                box.rule, action="allow", project=str(box.bound["project_name"])
            )
            return [
                [("ask", "Allow this, and write the rule:")],
                *[[("bold", f"  {line}")] for text in lines for line in text.split("\n")],
                [("ask", "y writes it and allows, n goes back")],
            ]
        case "details":
            return [[("dim", "j/k scroll  d back  y allow  n deny  q back")]]
        case _:
            return [[("dim", _KEYS)]]

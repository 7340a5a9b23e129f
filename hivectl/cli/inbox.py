"""The live inbox as a state machine: what waits, what is chosen, what a key means. Does no I/O.

A key that decides is bound to the id and version that were drawn last. What somebody else decided stays in
view until the person moves on, and when another request comes up by itself the deciding keys rest for a
moment: a key meant for one request never hits another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hivectl.cli import asking, views
from hivectl.cli.keys import Paste

SETTLE_S = 0.7
"""How long the deciding keys rest after another request, or a rule, came up by itself: what was typed before
was meant for something else."""
NEWS_MAX = 3
LINE_MAX = 4000
"""Characters of a message or answer that is typed here."""

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decide:
    """Send this decision for what was looked at."""

    item: Item
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """Let the person change the input, then allow it."""

    item: Item


@dataclass(frozen=True, slots=True)
class Preview:
    """Find out which rule `always` would write."""

    item: Item


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Wish = Decide | Edit | Preview | Quit
_DECIDING = frozenset("yneai")


@dataclass
class Inbox:
    """See the module. `mode`: list, details, message, interrupt, always, answers."""

    items: dict[str, Item] = field(default_factory=dict)
    chosen: str | None = None
    gone: Item | None = None
    """The chosen one, decided or withdrawn meanwhile; shown until the person moves on."""
    mode: str = "list"
    bound: Item | None = None
    """What the open dialogue is about."""
    line: str = ""
    rule: Mapping[str, Any] | None = None
    answers: dict[str, str] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    scroll: int = 0
    news: deque[str] = field(default_factory=lambda: deque(maxlen=NEWS_MAX))
    drawn: tuple[str, int] | None = None
    came_s: float = float("-inf")

    # -- what happens -------------------------------------------------------------------------

    def put(self, item: Item, now_s: float) -> None:
        """It waits: new, or in another version."""
        known = self.items.get(item["id"])
        self.items[item["id"]] = item
        self.items = dict(
            sorted(self.items.items(), key=lambda pair: (pair[1]["created_at"], pair[0]))
        )
        if self.chosen is None and self.gone is None:
            self._choose(item["id"], now_s)
        elif (
            item["id"] == self.chosen and known is not None and known["version"] != item["version"]
        ):
            self.came_s = now_s
            self._tell(f"{item['id']} changed")

    def close(self, item: Item, now_s: float, *, by_us: bool = False) -> None:
        """It waits no more: decided (here or elsewhere), or withdrawn."""
        name = str(item["id"])
        if name not in self.items:
            return
        place = list(self.items).index(name)
        closed = {**self.items.pop(name), **item}
        what = views.what(closed)
        self._tell(f"{closed['tool']} {what}: {views.decided({**closed, 'delivered': True})}")
        if self.bound is not None and self.bound["id"] == name:
            self._leave()
        if name != self.chosen:
            return
        if not by_us:
            self.gone = closed
        else:
            rest = list(self.items)
            self._choose(rest[min(place, len(rest) - 1)] if rest else None, now_s)

    def replace(self, items: Sequence[Item], now_s: float) -> None:
        """All that waits now: after the daemon was away."""
        here = {item["id"] for item in items}
        for name in [name for name in self.items if name not in here]:
            self.close({"id": name, "state": "closed while the daemon was away"}, now_s)
        for item in items:
            self.put(item, now_s)

    def tell(self, text: str) -> None:
        """Something the person should know."""
        self._tell(text)

    def offer(self, item: Item, verdict: Mapping[str, Any], now_s: float) -> None:
        """Show the rule before it is written, and ask."""
        if verdict["remember"] is None:
            self._tell(f"no rule can be made of this: {verdict['remember_problem']}")
        elif self.items.get(item["id"]) is not None:
            self.mode, self.bound, self.rule = "always", item, verdict["remember"]
            self.came_s = now_s

    def _choose(self, name: str | None, now_s: float) -> None:
        self.chosen, self.gone, self.scroll = name, None, 0
        self.came_s = now_s

    def _tell(self, text: str) -> None:
        self.news.append(text)

    def _leave(self) -> None:
        self.mode, self.bound, self.rule, self.line = "list", None, None, ""
        self.answers, self.stray = {}, []

    # -- keys ---------------------------------------------------------------------------------

    def key(self, key: str, now_s: float) -> Wish | None:
        """What a key asks for; None where it only changed what is shown."""
        if key == "quit":
            return Quit()
        if self.mode in {"message", "interrupt", "answers"}:
            return self._typed(key)
        if self.mode == "always":
            return self._confirmed(key, now_s)
        if isinstance(key, Paste):
            self._tell("pasted text is not taken for keys")
            return None
        if self.mode == "details" and key in {"d", "esc", "q", "enter"}:
            self.mode, self.scroll = "list", 0
            return None
        if key in {"q", "eof"}:
            return Quit()
        if key in _DECIDING:
            item = self._target(now_s)
            return self._begin(key, item) if item is not None else None
        self._move(key)
        return None

    def _move(self, key: str) -> None:
        if self.mode == "details" and key in {"up", "down", "k", "j", "pageup", "pagedown"}:
            step = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -10, "pagedown": 10}[key]
            self.scroll = max(self.scroll + step, 0)
            return
        names = list(self.items)
        if key in {"d", "enter"} and self.chosen is not None:
            self.mode, self.scroll = "details", 0
        elif key in {"up", "k", "down", "j", "home", "end"} and names:
            at = names.index(self.chosen) if self.chosen in self.items else -1
            step = {"up": -1, "k": -1, "down": 1, "j": 1}.get(key, 0)
            at = {"home": 0, "end": len(names) - 1}.get(key, max(at + step, 0))
            self.chosen, self.gone = names[min(at, len(names) - 1)], None

    def _target(self, now_s: float) -> Item | None:
        """What the person sees and means; None, with the reason told, where that is not certain."""
        if self.gone is not None or self.chosen is None:
            self._tell("nothing is chosen: move with j and k")
            return None
        item = self.items.get(self.chosen)
        if item is None or self.drawn != (item["id"], item["version"]):
            self._tell("it changed just now: look again")
            return None
        if now_s - self.came_s < SETTLE_S:
            self._tell("another one came up: look, then press again")
            return None
        return item

    def _begin(self, key: str, item: Item) -> Wish | None:
        asks = asking.needs_answers(item)
        match key:
            case "y" if asks:
                self.mode, self.bound, self.answers = "answers", item, {}
            case "y":
                return Decide(item, {"decision": "allow"})
            case "e" if not asks:
                return Edit(item)
            case "a" if item["kind"] != "question":
                return Preview(item)
            case "n" | "i":
                self.mode, self.bound = ("message" if key == "n" else "interrupt"), item
            case _:
                self._tell("a question is answered with y, or refused with n")
        return None

    def _confirmed(self, key: str, now_s: float) -> Wish | None:
        item = self.bound
        if key == "y" and item is not None:
            if now_s - self.came_s < SETTLE_S:
                self._tell("look at the rule, then press again")
                return None
            self._leave()
            return Decide(item, {"decision": "allow", "remember": True})
        if key in {"n", "q", "esc"}:
            self._leave()
        return None

    def _typed(self, key: str) -> Wish | None:
        if isinstance(key, Paste):
            self.line = (self.line + " ".join(key.split()))[:LINE_MAX]
        elif key == "esc":
            self._leave()
        elif key == "backspace":
            self.line = self.line[:-1]
        elif key == "clear":
            self.line = ""
        elif key == "enter":
            return self._entered()
        elif len(key) == 1:
            self.line = (self.line + key)[:LINE_MAX]
        return None

    def _entered(self) -> Wish | None:
        item = self.bound
        assert item is not None
        if self.mode == "answers":
            return self._answered(item)
        params = {"decision": "deny", "message": self.line, "interrupt": self.mode == "interrupt"}
        self._leave()
        return Decide(item, params)

    @property
    def question(self) -> Item | None:
        """The question that is answered now."""
        if self.mode != "answers" or self.bound is None:
            return None
        asked = asking.questions_of(self.bound)
        return asked[len(self.answers)] if len(self.answers) < len(asked) else None

    def _answered(self, item: Item) -> Wish | None:
        question, typed = self.question, self.line.strip()
        if question is None or not typed:
            return None
        options = [o for o in question.get("options") or [] if isinstance(o, Mapping)]
        may_many = question.get("multiSelect") is True
        stray = asking.stray_numbers(typed, options, may_many=may_many)
        if stray and stray != self.stray:
            self.stray = stray
            self._tell(
                f"there is no choice {', '.join(stray)}; Enter again sends it as your own words"
            )
            return None
        self.answers[str(question.get("question", ""))] = asking.chosen(
            typed, options, may_many=may_many
        )
        self.line, self.stray = "", []
        if self.question is not None:
            return None
        answers = self.answers
        self._leave()
        return Decide(item, {"decision": "allow", "answers": answers})

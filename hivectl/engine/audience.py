"""Who is told of what, as the settings have it: targets, kinds, and types of events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from hivectl.config import Settings
from hivectl.kit.clock import MICROSECOND
from hivectl.logic.notices import plain
from hivectl.model.event import EVENTS
from hivectl.model.notification import Target
from hivectl.store.notifications import Plan

LABEL_CHARS = 60


class Audience:
    """Reads the settings anew when they were replaced. May be asked from any thread."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """Over the settings in force."""
        self._settings = settings
        self._known: tuple[Settings, Plan] | None = None

    def plan(self) -> Plan:
        """All of it."""
        settings = self._settings()
        known = self._known
        if known is None or known[0] is not settings:
            known = self._known = (settings, self._make(settings))
        return known[1]

    def targets(self) -> list[Target]:
        """All targets."""
        return list(self.plan().targets)

    def people(self) -> list[Target]:
        """Targets for people."""
        return self.plan().people

    def _make(self, settings: Settings) -> Plan:
        people = dict.fromkeys(settings.strings("notify.targets"))
        hooks = dict.fromkeys(settings.strings("webhook.urls"))
        targets = [_target(url, n, is_webhook=False) for n, url in enumerate(people, 1)]
        targets += [_target(url, n, is_webhook=True) for n, url in enumerate(hooks, 1)]
        patterns = settings.strings("webhook.events")
        durable = [name for name, kind in EVENTS.items() if kind.is_durable]
        return Plan(
            targets=targets,
            kinds=frozenset(settings.strings("notify.events")),
            webhook_types=frozenset(
                name for name in durable if any(fnmatchcase(name, item) for item in patterns)
            ),
            same_us=int(settings.seconds("notify.dedupe_s") * MICROSECOND),
        )


def _target(url: str, number: int, *, is_webhook: bool) -> Target:
    kind = "webhook" if is_webhook else "people"
    key = f"{kind}:{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    return Target(key, _label(url, number, is_webhook=is_webhook), url, is_webhook)


def _label(url: str, number: int, *, is_webhook: bool) -> str:
    """A name that gives nothing away: paths, users and topics of an address are secrets."""
    scheme = url.partition("://")[0]
    if not is_webhook:
        return plain(f"{scheme} #{number}", LABEL_CHARS)
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return plain(f"webhook #{number} {host}", LABEL_CHARS)

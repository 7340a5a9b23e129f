"""A real browser on an attacker's pages against a whole daemon: rows S04 and S05, and S03's rebinding.

One Chromium visits all pages: one on another loopback port, one on another site, and one whose name
begins to lead to the daemon after it was loaded (rebinding). Each attack is also made on a careless server,
where it works: so none of these tests passes because nothing happened.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness import browser
from tests.harness.browser import EVIL, Attacker, OpenServer
from tests.harness.daemon import Daemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CHANGE = '{"jsonrpc":"2.0","id":1,"method":"execute","params":{"project":"web","prompt":"stolen"}}'
AUTH = '{"jsonrpc":"2.0","id":1,"method":"auth","params":{}}'
PLACES = ("port", "site", "rebinding")


@dataclass(frozen=True)
class Seen:
    """What the pages saw of the daemon and of the careless server, and what became of both."""

    daemon: dict[str, dict[str, Any]]
    careless: dict[str, dict[str, Any]]
    executions: int
    projects: list[dict[str, Any]]
    changes: list[bytes]
    sockets: list[str]


def plan(name: str, host: str, port: int, control: str) -> dict[str, Any]:
    place = f"{host}:{port}"
    return {
        "name": name, "http": f"http://{place}", "ws": f"ws://{place}/ws", "control": control,
        "change": CHANGE, "auth": AUTH, "patience_ms": 8000,
    }  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    program = browser.find_chromium()
    if program is None:
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail("no chromium, though continuous integration installs it")
        pytest.skip("no chromium; on Debian: apt install chromium")
    return visit(program, tmp_path_factory.mktemp("b"))


def visit(program: str, folder: Path) -> Seen:
    """One browser through all pages."""
    attacker, careless = Attacker(), OpenServer()
    (folder / "d").mkdir()
    with ExitStack() as stack:
        port = stack.enter_context(browser.serving(attacker.handler()))
        open_port = stack.enter_context(browser.serving(careless.handler(attacker)))
        with browser.serving(attacker.handler()) as daemon_port:
            # The first page comes from this port while it is the attacker's; then the daemon takes it over.
            names = lay_out(attacker, port, open_port, daemon_port)
            first = f"http://{EVIL}:{daemon_port}/attack?{names[0]}"
            stack.enter_context(browser.visiting(program, first, folder))
            attacker.wait("loaded", names[0])
        daemon = Daemon(folder / "d", settings={"listen.tcp": f"127.0.0.1:{daemon_port}"})
        stack.callback(daemon.close)
        daemon.start(within_s=60)
        daemon.project()
        attacker.token = (daemon.view / "state" / "token").read_text().strip()
        attacker.begin(names[0])
        for name in names:
            attacker.wait("reported", name)
        return Seen(
            daemon={place: attacker.reports[f"daemon-{place}"] for place in PLACES},
            careless={place: attacker.reports[f"careless-{place}"] for place in PLACES},
            executions=len(daemon.call("execution.list")["items"]),
            projects=daemon.call("project.list")["items"],
            changes=list(careless.changes),
            sockets=list(careless.sockets),
        )


def lay_out(attacker: Attacker, port: int, open_port: int, daemon_port: int) -> list[str]:
    """Plan the pages; each leads to the next. Their names, in order."""
    targets = {"daemon": daemon_port, "careless": open_port}
    names, previous = [], ""
    for target, target_port in targets.items():
        for place, page in (
            ("rebinding", f"{EVIL}:{target_port}"),
            ("port", f"127.0.0.1:{port}"),
            ("site", f"{EVIL}:{port}"),
        ):
            name = f"{target}-{place}"
            host = EVIL if place == "rebinding" else "127.0.0.1"
            attacker.plans[name] = plan(name, host, target_port, f"http://127.0.0.1:{port}")
            if previous:
                attacker.next[previous] = f"http://{page}/attack?{name}"
                attacker.begin(name)
            names.append(name)
            previous = name
    return names


@pytest.mark.parametrize("place", PLACES)
def test_s04_no_page_opens_a_socket_or_reads_a_byte(seen: Seen, place: str) -> None:
    found = seen.daemon[place]
    for name in ("socket", "socket with subprotocol"):
        assert found[name] == {"opened": False, "messages": [], "code": 1006}
    assert found["event stream"] == {"opened": False}
    for name in (
        "read health",
        "post json",
        "post json with the token",
        "frame",
        "form",
        "post text",
        "fetch health blindly",
    ):
        assert told(found[name]) is None, (name, found[name])


@pytest.mark.parametrize("place", PLACES)
def test_s04_the_same_attacks_work_where_nothing_is_checked(seen: Seen, place: str) -> None:
    found = seen.careless[place]
    for name in ("socket", "socket with subprotocol"):
        assert found[name]["opened"]
        assert found[name]["messages"] == ["secret"]
    if place == "rebinding":
        assert found["read health"]["body"] == "ok\n"
        assert found["frame"]["body"].strip() == "ok"
        assert found["event stream"]["opened"]
        assert found["post json with the token"]["status"] == 200


def test_s04_no_page_changes_anything(seen: Seen) -> None:
    assert seen.executions == 0
    assert [project["name"] for project in seen.projects] == ["web"]
    # On the careless server texts and forms arrived from everywhere, JSON from the rebound page only.
    assert len(seen.changes) >= 3 * 2 + 2
    assert all(b"stolen" in change for change in seen.changes)
    assert len(seen.sockets) == 6


def told(result: dict[str, Any]) -> str | None:
    """What a page could read that was no refusal; a rebound page may read that it was refused."""
    body = result.get("body")
    if not body or "ORIGIN_DENIED" in body:
        return None
    return str(body)

"""One viewer in Python, the same for all servers: websockets and json.loads. `python -m benchmarks.lone_viewer`

    KIND URL TOKEN PLACE EVENTS PROMPT

KIND is `hivectl` (PLACE: a project), `obvious`, or `claude-code-ui` (PLACE: a directory). Connects, follows, gives the
prompt by the same connection, and reads until it has seen EVENTS messages of agent.c, or nothing for PATIENCE_S. Prints
one JSON object: from the giving of the prompt to the first message, their ages, and how many were missing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_S = 15
Json = dict[str, Any]


async def hivectl(peer: ClientConnection, token: str, project: str, prompt: str) -> None:
    client = {"name": "lone", "version": "1"}
    await ask(peer, "auth", {"token": token, "client": client, "protocol": 1})
    await ask(peer, "subscribe", {"streams": [f"project:{project}"], "since": "now"})
    given = {"project": project, "prompt": prompt}
    request = {"jsonrpc": "2.0", "id": "execute", "method": "execute", "params": given}
    await peer.send(json.dumps(request))


async def ask(peer: ClientConnection, method: str, params: Json) -> None:
    await peer.send(
        json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
    )
    async for message in peer:
        answer = json.loads(message)
        if answer.get("id") == method:
            if "error" in answer:
                raise ConnectionError(answer["error"])
            return


async def obvious(peer: ClientConnection, _token: str, _place: str, prompt: str) -> None:
    await peer.send(prompt)


async def code_ui(peer: ClientConnection, _token: str, place: str, prompt: str) -> None:
    options = {"projectPath": place, "cwd": place}
    await peer.send(json.dumps({"type": "claude-command", "command": prompt, "options": options}))


GIVE = {"hivectl": hivectl, "obvious": obvious, "claude-code-ui": code_ui}
UNWRAP: dict[str, Callable[[Json], Any]] = {
    "hivectl": lambda found: found["params"]["data"]["raw"],
    "obvious": lambda found: found["data"],
    "claude-code-ui": lambda found: found["data"],
}


def text_of(unwrap: Callable[[Json], Any], found: Json) -> str:
    """What agent.c said; empty when it is anything else."""
    try:
        event = unwrap(found)
        return str(event["message"]["content"][0]["text"]) if event["type"] == "assistant" else ""
    except (KeyError, TypeError, IndexError):
        return ""


async def view(kind: str, url: str, token: str, place: str, events: int, prompt: str) -> Json:
    subprotocols: Any = ["hivectl.v1"] if kind == "hivectl" else None
    ages, broken, last, first_ms, made_first = [], 0, 0, 0.0, 0
    async with connect(url, compression=None, max_size=None, subprotocols=subprotocols) as peer:
        await GIVE[kind](peer, token, place, prompt)
        begun = time.monotonic_ns()
        while last < events:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    message = await peer.recv()
            except TimeoutError:
                break
            text = text_of(UNWRAP[kind], json.loads(message))
            if not text:
                continue
            now = time.monotonic_ns()
            _, n, made = (int(word.partition("=")[2]) for word in text.split(" ", 3)[:3])
            if not ages:
                first_ms, made_first = (now - begun) / 1e6, made
            ages.append(now - made)
            broken += n - last - 1
            last = n
        took_s = (time.monotonic_ns() - made_first) / 1e9
    ages.sort()
    return {
        "events": len(ages),
        "broken": broken + events - last,
        "first_ms": first_ms,
        "took_s": took_s,
        "p50_us": part(ages, 0.5),
        "p99_us": part(ages, 0.99),
    }


def part(ages: list[int], where: float) -> float:
    return ages[int((len(ages) - 1) * where)] / 1000 if ages else 0.0


def main(kind: str, url: str, token: str, place: str, events: str, prompt: str) -> None:
    print(json.dumps(asyncio.run(view(kind, url, token, place, int(events), prompt))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

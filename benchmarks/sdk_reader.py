"""The official Agent SDK as a reference: `query()` against a program that prints given lines.

    python benchmarks/sdk_reader.py LINES RESULT

Needs nothing of hivectl, so that any interpreter with claude-agent-sdk will do. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

STAND_IN = """#!{python}
import json, shutil, sys
if "-v" in sys.argv or "--version" in sys.argv:
    print("2.1.329 (Claude Code)"); sys.exit()
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("type") == "control_request":
        answer = {{"subtype": "success", "request_id": asked["request_id"], "response": {{"commands": []}}}}
        print(json.dumps({{"type": "control_response", "response": answer}}), flush=True)
    elif asked.get("type") == "user":
        for path in {paths!r}:
            with open(path, "rb") as source:
                shutil.copyfileobj(source, sys.stdout.buffer, 1 << 18)
        sys.stdout.flush()
        break
"""


async def read(stand_in: str) -> dict[str, float]:
    from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, query

    events, start, cpu = 0, 0.0, 0.0
    async for message in query(prompt="go", options=ClaudeAgentOptions(cli_path=stand_in)):
        if isinstance(message, AssistantMessage):
            events += 1
        elif not start:
            start, cpu = time.perf_counter(), time.process_time()
    return {
        "events": events,
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / "claude"
        stand_in.write_text(STAND_IN.format(python=sys.executable, paths=sys.argv[1:3]))
        stand_in.chmod(0o700)
        print(json.dumps(asyncio.run(read(str(stand_in)))))


if __name__ == "__main__":
    main()

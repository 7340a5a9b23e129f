"""The Python SDK from `query()` to the first message of Claude's: `python sdk_first.py CLAUDE RUNS PROMPT`.

Needs nothing of hivectl. Prints the median in milliseconds; the first run is not counted.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time


async def first_ms(claude: str, prompt: str) -> float:
    from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, query

    start, took = time.perf_counter(), 0.0
    async for message in query(prompt=prompt, options=ClaudeAgentOptions(cli_path=claude)):
        if isinstance(message, AssistantMessage) and not took:
            took = (time.perf_counter() - start) * 1000
    return took


def main(claude: str, runs: str, prompt: str) -> None:
    taken = [asyncio.run(first_ms(claude, prompt)) for _ in range(int(runs) + 1)]
    print(statistics.median(taken[1:]))


if __name__ == "__main__":
    main(*sys.argv[1:])

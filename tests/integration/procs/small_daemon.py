"""A daemon reduced to its host: `RUNS PROCESS FLAGS...`; starts or adopts one process, answers its
questions, follows it to its end. Made to be killed at any moment.

The child (`talker.py`) asks `ask N` now and then; the answer's frame id is `answer-N`.
"""

import asyncio
import os
import sys
from pathlib import Path

from hivectl.kit import failpoint
from hivectl.kit.clock import SystemClock
from hivectl.ports import Launch
from hivectl.procs.host import LocalHost
from hivectl.procs.rundir import StopTimes

TALKER = str(Path(__file__).with_name("talker.py"))


async def main(runs: Path, process: str, lines: str, answers: str) -> None:
    host = LocalHost(
        runs, clock=SystemClock(), times=StopTimes(interrupt_s=0.2, close_s=0.2, term_s=0.2)
    )
    handle = await host.adopt(process)
    if handle is None:
        handle = await host.start(
            process,
            Launch(
                argv=(sys.executable, "-I", "-S", TALKER, lines, answers),
                env={"PATH": os.environ["PATH"]},
                cwd=Path("/"),
                mark=process,
            ),
        )
    print("attached", flush=True)
    data, offset = b"", 0
    while True:
        ended = handle.exit
        part = handle.read("out", offset, 1 << 16)
        offset += len(part)
        *found, data = (data + part).split(b"\n")
        for line in found:
            if line.startswith(b"ask "):
                number = line.split()[1].decode()
                await handle.write(f"answer-{number}", f"answer {number}\n".encode())
        if ended is not None and not part:
            break
        if not part:
            await handle.wait_change(5)
    print(ended.code, ended.signal, int(ended.shim_lost), flush=True)
    await host.close()


if __name__ == "__main__":
    failpoint.configure(os.environ.get("HIVECTL_FAILPOINT", ""))
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:5]))

"""A daemon whose App does next to nothing: run by the lifecycle tests as a process of its own."""

import asyncio
import os
import sys
from collections.abc import Mapping

from hivectl import config
from hivectl.daemon import lifecycle, logs


class TinyApp:
    """Behaves as TINY_* variables say."""

    def __init__(self, settings: config.Settings, control: lifecycle.Control) -> None:
        self.settings = settings
        self.control = control

    async def start(self) -> None:
        if (pause := os.environ.get("TINY_START_S")) is not None:
            await asyncio.sleep(float(pause))
        if os.environ.get("TINY_START_FAILS"):
            raise RuntimeError("cannot start")
        if reason := os.environ.get("TINY_FAILS"):
            asyncio.get_running_loop().call_later(0.05, self.control.fail, reason)
        if runs := os.environ.get("TINY_ASKS_STOP"):
            asyncio.get_running_loop().call_later(0.05, self.control.ask_stop, runs, None)

    async def stop(self, *, runs: str, timeout_s: float | None) -> None:
        self.say(f"stop runs={runs} timeout_s={timeout_s}")
        if runs == os.environ.get("TINY_STOP_HANGS_FOR"):
            await asyncio.Event().wait()

    async def beat(self) -> None:
        if os.environ.get("TINY_STUCK"):
            await asyncio.Event().wait()

    def reload(self, settings: config.Settings) -> None:
        self.say(f"reload max_live={settings['execution.max_live']}")

    def status(self) -> str:
        return "0 live"

    @property
    def addresses(self) -> Mapping[str, str | None]:
        return {"socket": str(self.settings.places.socket), "tcp": "127.0.0.1:1"}

    def say(self, text: str) -> None:
        print(text, flush=True)


async def build(settings: config.Settings, control: lifecycle.Control) -> lifecycle.App:
    return TinyApp(settings, control)


def main() -> int:
    settings = config.load()
    try:
        return asyncio.run(lifecycle.run(settings, build, terminal="none"))
    except lifecycle.AlreadyRunning as held:
        print(f"held by {held.args[0]}", flush=True)
        return lifecycle.EXIT_LOCK_HELD


if __name__ == "__main__":
    logs.close()
    sys.exit(main())

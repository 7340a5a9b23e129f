"""A worker in thirty lines: it counts words, asks a person first, and completes.

python examples/worker/word_counter.py &
hivectl exec --pool words -p web "*.md"
"""

import logging
from pathlib import Path

from hivectl.client import Job, Worker


def count(folder: Path, pattern: str) -> dict[str, int]:
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return {path.name: len(path.read_text(errors="replace").split()) for path in files}


class WordCounter(Worker):
    """The prompt is a pattern of file names."""

    async def handle(self, job: Job) -> str:
        await job.output(f"counting the words of {job.prompt}")
        words = count(Path(job.project["path"]), job.prompt)
        answer = await job.ask(f"Tell the words of {len(words)} files?", choices=["yes", "no"])
        if answer != "yes":
            return f"Not told: {answer}"
        for name, number in words.items():
            await job.output(f"{name}: {number}")
        return f"{sum(words.values())} words in {len(words)} files"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    WordCounter("word-counter", pools=["words"]).main()

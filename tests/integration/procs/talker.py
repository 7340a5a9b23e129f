"""Writes numbered lines in bursts, asks now and then and notes the answers: `LINES ANSWERS`; exits with 42."""

import os
import sys
import time

EVERY = 500


def main(lines: int, path: str) -> None:
    answers = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    buffer = b""
    for number in range(lines):
        line = b"line %07d %s\n" % (number, b"." * (number % 97))
        while line:
            line = line[os.write(1, line) :]
        if number % EVERY == EVERY - 1:
            os.write(1, b"ask %d\n" % number)
            while b"\n" not in buffer:
                part = os.read(0, 65536)
                if not part:
                    os._exit(9)
                buffer += part
            answer, _, buffer = buffer.partition(b"\n")
            os.write(answers, answer + b"\n")
            time.sleep(0.01)
    os._exit(42)


def expected(lines: int) -> bytes:
    parts = []
    for number in range(lines):
        parts.append(b"line %07d %s\n" % (number, b"." * (number % 97)))
        if number % EVERY == EVERY - 1:
            parts.append(b"ask %d\n" % number)
    return b"".join(parts)


def expected_answers(lines: int) -> bytes:
    return b"".join(b"answer %d\n" % n for n in range(lines) if n % EVERY == EVERY - 1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
